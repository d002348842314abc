"""Rows for tests, and the engine over rows in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from anneal.curation.domain.engine import NamedStep, Outcome, Verdict, curate
from anneal.curation.domain.steps.base import Assignment, Comparer, Removal, RowFilter, Runnable
from anneal.kit.records import CONVERSATION, conversation, to_table

Row = dict[str, Any]


def asked(prompt: str, answer: str, source: str = "a.html") -> Row:
    return said(("user", prompt), ("assistant", answer), source=source)


def said(*turns: tuple[str, str], source: str = "a.html") -> Row:
    return conversation([{"role": role, "content": content} for role, content in turns], source=source)


def batch_of(rows: Sequence[Row]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=CONVERSATION)


def judged(step: RowFilter, *rows: Row) -> list[Removal | None]:
    """What a filter says about each row."""
    removals = step.judge(batch_of(rows))
    return [removals.get(row) for row in range(len(rows))]


def reasons(step: RowFilter, *rows: Row) -> list[str]:
    return [removal.reason if removal else "" for removal in judged(step, *rows)]


class SignedRows:
    """Signatures of rows in memory."""

    def __init__(self, step: Comparer, batch: pa.RecordBatch) -> None:
        signed = step.sign(batch)
        assert signed.num_rows == batch.num_rows
        self._batch = batch
        self._columns = {name: signed.column(name) for name in signed.schema.names}
        self._columns |= {name: batch.column(name) for name in ("id", "source")}

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    def array(self, name: str) -> np.ndarray[Any, Any]:
        column = self._columns[name]
        if pa.types.is_fixed_size_list(column.type):
            flat = column.flatten().to_numpy(zero_copy_only=False)
            return np.asarray(flat.reshape(len(self), column.type.list_size))
        return np.asarray(column.to_numpy(zero_copy_only=False))

    def column(self, name: str) -> pa.ChunkedArray:
        return pa.chunked_array([self._columns[name]])

    def ranks(self, *keys: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
        ids, sources = (self._columns[name].to_pylist() for name in ("id", "source"))
        order = sorted(range(len(self)), key=lambda row: (*(key[row] for key in keys), ids[row], sources[row], row))
        ranks = np.empty(len(self), dtype=np.int64)
        ranks[order] = np.arange(len(self))
        return ranks

    def revisit(self, look: Callable[[pa.RecordBatch], pa.RecordBatch], places: Any) -> pa.Table:
        assert (np.diff(places) > 0).all()
        return pa.Table.from_batches([look(self._batch.take(pa.array(places)))])


def compared(step: Comparer, *rows: Row) -> list[Removal | None]:
    """What a comparison says about each row."""
    verdicts = step.compare(SignedRows(step, batch_of(rows)))
    assert not isinstance(verdicts, Assignment)
    said: list[Removal | None] = [None] * len(rows)
    for verdict in verdicts:
        for at, place in enumerate(verdict.places.tolist()):
            assert said[place] is None
            numbers = {name: value[at] if np.ndim(value) else value for name, value in verdict.numbers.items()}
            others = {name: int(other[at]) for name, other in verdict.related.items()}
            numbers |= {name: rows[other]["id"] for name, other in others.items() if other >= 0}
            of = None if verdict.duplicate_of is None else rows[int(verdict.duplicate_of[at])]["id"]
            said[place] = Removal(verdict.reason, numbers, of)
    return said


@dataclass(slots=True)
class InMemory:
    """Source and sink."""

    rows: Sequence[tuple[str, Row]]
    batch_rows: int = 1000
    kept: list[tuple[str, Row]] = field(default_factory=list)
    removed: list[tuple[Row, Verdict]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.rows)

    def read(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        for split in dict.fromkeys(split for split, _ in self.rows):
            table = to_table("conversation", [row for name, row in self.rows if name == split])
            for batch in table.to_batches(max_chunksize=self.batch_rows):
                yield split, batch

    def keep(self, batch: pa.RecordBatch, split: str) -> None:
        self.kept += [(split, row) for row in batch.to_pylist()]

    def remove(self, batch: pa.RecordBatch, verdicts: Sequence[Verdict]) -> None:
        self.removed += zip(batch.to_pylist(), verdicts, strict=True)

    @property
    def kept_ids(self) -> list[str]:
        return sorted(row["id"] for _, row in self.kept)


def run(
    rows: Iterable[Row] | Iterable[tuple[str, Row]], *steps: Runnable, batch_rows: int = 1000
) -> tuple[InMemory, Outcome]:
    """Rows (with their splits, else of the split train) through steps; the balance is checked."""
    split = [row if isinstance(row, tuple) else ("train", row) for row in rows]
    memory = InMemory(split, batch_rows)
    named = [NamedStep(type(step).__name__, step) for step in steps]
    outcome = curate(named, memory, memory, lambda _doing, _done, _total: None)
    assert outcome.rows_in == len(split) == len(memory.kept) + len(memory.removed)
    assert sum(outcome.kept.values()) == len(memory.kept)
    assert sum(outcome.removed.values()) == len(memory.removed)
    return memory, outcome
