"""Which rows are gone, by which step, and why: a few bytes a row, and the reasons where they were found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.signed import SignedRows
from anneal.curation.domain.steps.base import Verdicts
from anneal.kit.records import REMOVED_FIELDS

Numbers = NDArray[np.int64]
Columns = tuple[list[str], list[str], list[str | None]]
"""Reason, numbers as JSON, and id of the row repeated, of some removed rows."""


class Found:
    """The verdicts of a filter: parts, one for each piece."""

    def __init__(self, starts: Numbers, part: Callable[[int], pa.RecordBatch]) -> None:
        self._starts, self._part = starts, part

    def columns(self, numbers: Numbers) -> Columns:
        """Why rows left, ascending."""
        reasons: list[str] = []
        measured: list[str] = []
        repeated: list[str | None] = []
        cuts = np.searchsorted(numbers, self._starts)
        for piece in np.flatnonzero(np.diff(cuts)).tolist():
            part = self._part(piece)
            within = numbers[cuts[piece] : cuts[piece + 1]] - self._starts[piece]
            rows = part.take(pa.array(np.searchsorted(part.column("place").to_numpy(), within)))
            reasons += rows.column("reason").to_pylist()
            measured += rows.column("numbers").to_pylist()
            repeated += rows.column("duplicate_of").to_pylist()
        return reasons, measured, repeated


@dataclass(frozen=True, slots=True)
class Compared:
    """The verdicts of a comparison, in columns."""

    signed: SignedRows
    verdicts: Sequence[Verdicts]

    def numbers(self) -> Numbers:
        """The rows that leave, ascending."""
        places = np.concatenate([np.zeros(0, dtype=np.int64), *(one.places for one in self.verdicts)])
        numbers: Numbers = self.signed.numbers[np.sort(places)]
        return numbers

    def columns(self, numbers: Numbers) -> Columns:
        """Why rows left, ascending."""
        count = len(numbers)
        reasons, measured = [""] * count, [""] * count
        repeated: list[str | None] = [None] * count
        places = np.searchsorted(self.signed.numbers, numbers)
        for verdict in self.verdicts:
            spots = np.searchsorted(verdict.places, places)
            spots[spots == len(verdict.places)] = 0
            here = np.flatnonzero(verdict.places[spots] == places) if len(verdict.places) else np.zeros(0, np.int64)
            told = _told(verdict, spots[here], self.signed)
            for place, numbers_told, of in zip(here.tolist(), told[0], told[1], strict=True):
                reasons[place], measured[place], repeated[place] = verdict.reason, numbers_told, of
        return reasons, measured, repeated


def _told(verdict: Verdicts, spots: Numbers, signed: SignedRows) -> tuple[list[str], Sequence[str | None]]:
    """The numbers of some rows of a verdict as JSON, and the ids of those they repeat."""
    fields: dict[str, Sequence[str]] = {}
    for name, value in verdict.numbers.items():
        fields[name] = _fragments(name, value[spots] if np.ndim(value) else np.array([value] * len(spots)))
    for name, others in verdict.related.items():
        named = others[spots]
        ids = iter(signed.ids(named[named >= 0]))
        fields[name] = [f'"{name}": "{next(ids)}"' if is_there else "" for is_there in (named >= 0).tolist()]
    rows = zip(*(fields[name] for name in sorted(fields)), strict=True) if fields else [()] * len(spots)
    told = [f"{{{', '.join(filter(None, row))}}}" for row in rows]
    if verdict.duplicate_of is None:
        return told, [None] * len(spots)
    return told, signed.ids(verdict.duplicate_of[spots])


def _fragments(name: str, values: NDArray[Any]) -> list[str]:
    """`"name": value` in JSON for each of many values, of which few differ."""
    different, which = np.unique(values, return_inverse=True)
    written = np.array([f"{json.dumps(name)}: {json.dumps(value)}" for value in different.tolist()], dtype=object)
    fragments: list[str] = written[which].tolist()
    return fragments


class Ledger:
    """The fate of every row."""

    def __init__(self, count: int) -> None:
        self.fate: NDArray[np.int16] = np.full(count, -1, dtype=np.int16)
        self.removed: Counter[tuple[str, str]] = Counter()
        self._steps: dict[int, tuple[str, Found | Compared]] = {}

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Rows that no step has removed, shape (rows,)."""
        return self.fate < 0

    def remove(self, step: int, name: str, numbers: Numbers, why: Found | Compared) -> None:
        """Remove rows, ascending."""
        self.fate[numbers] = step
        self._steps[step] = (name, why)

    def why(self, numbers: Numbers) -> pa.Table:
        """The columns that are kept beside removed rows, ascending, and counts them."""
        fates = self.fate[numbers]
        steps = np.empty(len(numbers), dtype=object)
        columns: list[Any] = [np.empty(len(numbers), dtype=object) for _ in range(3)]
        for step in np.unique(fates).tolist():
            name, why = self._steps[step]
            here = np.flatnonzero(fates == step)
            told = why.columns(numbers[here])
            steps[here] = name
            for column, values in zip(columns, told, strict=True):
                column[here] = values
            for reason, count in Counter(told[0]).items():
                self.removed[name, reason] += count
        arrays = [
            pa.array(values, type=field.type, from_pandas=True)
            for values, field in zip((steps, *columns), REMOVED_FIELDS, strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=pa.schema(list(REMOVED_FIELDS)))
