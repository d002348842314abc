"""Rows for tests, and the engine over rows in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from anneal.curation.adapters.executors.threads import Threads
from anneal.curation.domain.engine import NamedStep, Outcome, curate
from anneal.curation.domain.looks import identify, locate, measure
from anneal.curation.domain.output import File
from anneal.curation.domain.pieces import Piece
from anneal.curation.domain.signed import Looked, Notes, Parts, SignedRows
from anneal.curation.domain.steps.base import Assignment, Comparer, Copies, Removal, RowFilter, Runnable
from anneal.kit.records import CONVERSATION, REMOVED_FIELDS, conversation

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


def signed(step: Comparer, batch: pa.RecordBatch) -> SignedRows:
    """Rows as a comparison sees them, all in one piece."""
    return SignedRows(
        np.arange(batch.num_rows),
        np.array([0, batch.num_rows]),
        Parts(
            lambda _: step.sign(batch),
            lambda _: identify(batch),
            lambda _: locate(batch),
            lambda _: measure(batch),
            ["signed"],
            ["named"],
            ["located"],
        ),
        lambda _name, look, places, _columns: Looked(
            np.array([0, len(places[0])]), lambda _piece: look(batch.take(pa.array(places[0])))
        ),
        Notes.in_memory(),
        lambda split: np.full(batch.num_rows, split == "train"),
        np.zeros(1, dtype=np.int32),
    )


def compared(step: Comparer, *rows: Row) -> list[Removal | None]:
    """What a comparison says about each row."""
    verdicts = step.compare(signed(step, batch_of(rows)))
    assert not isinstance(verdicts, Assignment | Copies)
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


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which step removed a row, and why."""

    step: str
    removal: Removal


class PartsInMemory(dict[str, pa.RecordBatch]):
    """A vault in memory."""

    has = dict.__contains__
    open = dict.__getitem__
    put = dict.update

    def ready(self, keys: Sequence[str]) -> None:
        pass

    def note(self, name: str) -> str | None:
        return None


@dataclass(slots=True)
class InMemory:
    """Source and sink."""

    rows: Sequence[tuple[str, Row]]
    piece_rows: int = 1000
    kept: list[tuple[str, Row]] = field(default_factory=list)
    removed: list[tuple[Row, Verdict]] = field(default_factory=list)

    @property
    def pieces(self) -> list[Piece]:
        made: list[Piece] = []
        for split in dict.fromkeys(split for split, _ in self.rows):
            count = sum(name == split for name, _ in self.rows)
            for first in range(0, count, self.piece_rows):
                start = made[-1].start + made[-1].rows if made else 0
                made.append(Piece(start, min(self.piece_rows, count - first), split, f"{split}:{first}"))
        return made

    def load(self, piece: Piece, columns: Sequence[str] = ()) -> pa.RecordBatch:
        first = int(piece.key.rpartition(":")[2])
        rows = [row for name, row in self.rows if name == piece.split]
        return batch_of(rows[first : first + piece.rows])

    limits = (1 << 40, 1 << 40)

    def write(self, file: File, rows: pa.Table) -> pa.Table:
        return rows

    def note(self, written: pa.Table) -> pa.RecordBatch:
        return written.combine_chunks().to_batches()[0]

    def recall(self, file: File, note: pa.RecordBatch) -> pa.RecordBatch:
        return note

    def add(self, file: File, written: pa.RecordBatch) -> None:
        rows = written.to_pylist()
        if file.part == "rows":
            self.kept += [(file.split, row) for row in rows]
            return
        for row in rows:
            step, reason, numbers, of = (row.pop(name.name) for name in REMOVED_FIELDS)
            self.removed.append((row, Verdict(step, Removal(reason, json.loads(numbers), of))))

    @property
    def kept_ids(self) -> list[str]:
        return sorted(row["id"] for _, row in self.kept)


def run(
    rows: Iterable[Row] | Iterable[tuple[str, Row]], *steps: Runnable, piece_rows: int = 1000
) -> tuple[InMemory, Outcome]:
    """Rows (with their splits, else of the split train) through steps; the balance is checked."""
    split = [row if isinstance(row, tuple) else ("train", row) for row in rows]
    memory, outcome = run_on(InMemory(split, piece_rows), *steps)
    assert outcome.rows_in == len(split)
    return memory, outcome


def run_on(memory: InMemory, *steps: Runnable) -> tuple[InMemory, Outcome]:
    """Rows in memory through steps; the balance is checked."""
    named = [NamedStep(type(step).__name__, step) for step in steps]
    outcome = curate(named, memory, PartsInMemory(), Threads(2), memory, lambda _doing, _done, _total: None)
    assert outcome.rows_in == len(memory.kept) + len(memory.removed)
    assert sum(outcome.kept.values()) == len(memory.kept)
    assert sum(outcome.removed.values()) == len(memory.removed)
    return memory, outcome
