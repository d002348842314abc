"""Which rows are gone, by which step, and why: a few bytes a row, and the reasons where they were found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.looks import VERDICTS
from anneal.curation.domain.signed import SignedRows
from anneal.curation.domain.steps.base import Verdicts
from anneal.kit.records import REMOVED_FIELDS

Numbers = NDArray[np.int64]
Columns = tuple[pa.Array, pa.Array, pa.Array]
"""Reason, numbers as JSON, and id of the row repeated or null, of some removed rows."""


class Found:
    """The verdicts of a filter: parts, one for each piece."""

    def __init__(self, starts: Numbers, part: Callable[[int], pa.RecordBatch], key: Callable[[int], str]) -> None:
        """Look at them.

        Args:
            starts: number of the first row of each piece, and the number of all rows.
            part: opens the part of a piece.
            key: of that part, from which it follows.
        """
        self._starts, self._part, self._key = starts, part, key

    def numbers(self) -> Numbers:
        """The rows of which something was found, ascending."""
        gone = [np.zeros(0, dtype=np.int64)]
        for piece, start in enumerate(self._starts[:-1].tolist()):
            gone.append(start + self._part(piece).column("place").to_numpy().astype(np.int64))
        return np.concatenate(gone)

    def columns(self, numbers: Numbers) -> Columns:
        """Why rows left, ascending."""
        rows = pa.Table.from_batches(self._verdicts(numbers), VERDICTS)
        reason, measured, repeated = (
            rows.column(name).combine_chunks() for name in ("reason", "numbers", "duplicate_of")
        )
        return reason, measured, repeated

    def reasons(self, numbers: Numbers) -> Counter[str]:
        """How many of some rows, ascending, left for which reason."""
        found = Counter[str]()
        for rows in self._verdicts(numbers):
            for entry in pc.value_counts(rows.column("reason")).to_pylist():
                found[entry["values"]] += entry["counts"]
        return found

    def told(self, numbers: Numbers) -> Iterator[bytes | str | pa.Buffer]:
        """What the columns of some rows, ascending, follow from."""
        for piece, within in self._by_piece(numbers):
            yield self._key(piece)
            yield within.tobytes()

    def _verdicts(self, numbers: Numbers) -> Iterator[pa.RecordBatch]:
        for piece, within in self._by_piece(numbers):
            part = self._part(piece)
            yield part.take(pa.array(np.searchsorted(part.column("place").to_numpy(), within)))

    def _by_piece(self, numbers: Numbers) -> Iterator[tuple[int, Numbers]]:
        cuts = np.searchsorted(numbers, self._starts)
        for piece in np.flatnonzero(np.diff(cuts)).tolist():
            yield piece, numbers[cuts[piece] : cuts[piece + 1]] - self._starts[piece]


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
        places, found = [], []
        for verdict, here, spots in self._verdicts(numbers):
            places.append(here)
            found.append((_repeated(verdict.reason, len(here)), *_told(verdict, spots, self.signed)))
        return _in_order(places, found)

    def reasons(self, numbers: Numbers) -> Counter[str]:
        """How many of some rows, ascending, left for which reason."""
        found = Counter[str]()
        for verdict, here, _ in self._verdicts(numbers):
            found[verdict.reason] += len(here)
        return found

    def told(self, numbers: Numbers) -> Iterator[bytes | str | pa.Buffer]:
        """What the columns of some rows, ascending, follow from."""
        for verdict, here, spots in self._verdicts(numbers):
            yield verdict.reason
            yield here.tobytes()
            for name, value in sorted(verdict.numbers.items()):
                yield name
                yield value[spots].tobytes() if np.ndim(value) else repr(value)
            for name, others in sorted(verdict.related.items()):
                named = others[spots]
                yield name
                yield (named >= 0).tobytes()
                yield from self.signed.naming(named[named >= 0])
            if verdict.duplicate_of is not None:
                yield from self.signed.naming(verdict.duplicate_of[spots])

    def _verdicts(self, numbers: Numbers) -> Iterator[tuple[Verdicts, Numbers, Numbers]]:
        """Each verdict with the rows, by their places among the numbers, that it is about, and their places in it."""
        places = self.signed.places(numbers)
        for verdict in self.verdicts:
            if len(verdict.places):
                spots = np.searchsorted(verdict.places, places)
                spots[spots == len(verdict.places)] = 0
                here = np.flatnonzero(verdict.places[spots] == places)
                yield verdict, here, spots[here]


def _told(verdict: Verdicts, spots: Numbers, signed: SignedRows) -> tuple[pa.Array, pa.Array]:
    """The numbers of some rows of a verdict as JSON, and the ids of those they repeat."""
    count = len(spots)
    fields: dict[str, pa.Array] = {}
    for name, value in verdict.numbers.items():
        fields[name] = _members(name, value[spots]) if np.ndim(value) else _repeated(_member(name, value), count)
    for name, others in verdict.related.items():
        named = others[spots]
        is_there = np.flatnonzero(named >= 0)
        texts = pc.binary_join_element_wise(f'"{name}": "', signed.id_texts(named[is_there]), '"', "")
        at = np.zeros(count, dtype=np.int64)
        at[is_there] = np.arange(len(is_there))
        fields[name] = texts.take(pa.array(at, mask=named < 0))
    if fields:
        members = [fields[name] for name in sorted(fields)]
        joined = pc.binary_join_element_wise(*members, ", ", null_handling="skip")
        told = pc.binary_join_element_wise("{", joined, "}", "")
    else:
        told = _repeated("{}", count)
    if verdict.duplicate_of is None:
        return told, pa.nulls(count, pa.string())
    return told, signed.id_texts(verdict.duplicate_of[spots])


def _member(name: str, value: Any) -> str:
    return f"{json.dumps(name)}: {json.dumps(value)}"


def _members(name: str, values: NDArray[Any]) -> pa.Array:
    """`"name": value` in JSON for each of many values, of which few differ."""
    different, which = np.unique(values, return_inverse=True)
    return pa.array([_member(name, value) for value in different.tolist()], pa.string()).take(pa.array(which))


def _repeated(text: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(text, pa.string()), count)


def _in_order(places: Sequence[Numbers], columns: Sequence[tuple[pa.Array, ...]]) -> tuple[pa.Array, ...]:
    """Columns of some rows each, by the places of the rows, as columns of all rows."""
    if len(places) == 1:
        return columns[0]
    order = pa.array(np.argsort(np.concatenate(places)))
    return tuple(pa.concat_arrays(column).take(order) for column in zip(*columns, strict=True))


class Ledger:
    """The fate of every row."""

    def __init__(self, count: int) -> None:
        self.fate: NDArray[np.int16] = np.full(count, -1, dtype=np.int16)
        self._steps: dict[int, tuple[str, Found | Compared]] = {}

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Rows that no step has removed, shape (rows,)."""
        return self.fate < 0

    def remove(self, step: int, name: str, numbers: Numbers, why: Found | Compared) -> None:
        """Remove rows, ascending."""
        self.fate[numbers] = step
        self._steps[step] = (name, why)

    def reasons(self, numbers: Numbers) -> Counter[tuple[str, str]]:
        """How many of some removed rows, ascending, left by which step and for which reason."""
        found = Counter[tuple[str, str]]()
        for name, why, here in self._by_step(numbers):
            for reason, count in why.reasons(numbers[here]).items():
                found[name, reason] += count
        return found

    def told(self, numbers: Numbers) -> Iterator[bytes | str | pa.Buffer]:
        """What the columns beside some removed rows, ascending, follow from: where it is equal, so are they."""
        for name, why, here in self._by_step(numbers):
            yield name
            yield here.tobytes()
            yield from why.told(numbers[here])

    def why(self, numbers: Numbers) -> pa.Table:
        """The columns that are kept beside removed rows, ascending."""
        places, columns = [], []
        for name, why, here in self._by_step(numbers):
            places.append(here)
            columns.append((_repeated(name, len(here)), *why.columns(numbers[here])))
        return pa.Table.from_arrays(list(_in_order(places, columns)), schema=pa.schema(list(REMOVED_FIELDS)))

    def _by_step(self, numbers: Numbers) -> Iterator[tuple[str, Found | Compared, Numbers]]:
        fates = self.fate[numbers]
        for step in np.unique(fates).tolist():
            yield *self._steps[step], np.flatnonzero(fates == step)
