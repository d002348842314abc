"""Rows that are worked on together, wherever that happens, and what is done to them on the way.

A piece is a run of rows of one shard. What a step finds in it is a *part*: a small table that follows from the rows,
the changes made to them before, and the step alone. So parts can be made on any thread or machine, kept, and found
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Look = Callable[[pa.RecordBatch], pa.RecordBatch]
Result = TypeVar("Result")

FORMAT = "anneal-curation-part/6"


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of rows.

    Attributes:
        start: number of its first row in the whole input.
        rows: how many.
        split: the split they are in.
        key: says which rows of which shard they are, so that equal keys have equal rows.
        origin: number of the dataset they are from.
    """

    start: int
    rows: int
    split: str
    key: str
    origin: int = 0


class Source(Protocol):
    """Rows that can be read in pieces, again and again, also by another process: it is picklable."""

    @property
    def pieces(self) -> Sequence[Piece]:
        """All of them, in the order of their rows."""
        ...

    def load(self, piece: Piece, columns: Sequence[str] = ()) -> pa.RecordBatch:
        """The rows of a piece: all columns, or those of some names that there are."""
        ...


class Vault(Protocol):
    """Where parts are kept. What was put is whole or not there, also after a crash."""

    def has(self, key: str) -> bool:
        """Whether a part is there."""
        ...

    def put(self, parts: Mapping[str, pa.RecordBatch]) -> None:
        """Keep parts by their keys, all or none."""
        ...

    def open(self, key: str) -> pa.RecordBatch:
        """A part; mapped, not read."""
        ...

    def ready(self, keys: Sequence[str]) -> None:
        """Fetch and verify parts that are not here yet, several at once: all will be opened."""
        ...

    def note(self, name: str) -> str | None:
        """The key of what the last version of the dataset kept under a name."""
        ...


class Executor(Protocol):
    """Runs a pure function over many items, maybe elsewhere; the results come in the order of the items."""

    def map(
        self,
        function: Callable[[Any, Any], Any],
        shared: Any,
        items: Iterable[Any],
        then: Callable[[Any, Any], Result],
    ) -> Iterator[Result]:
        """`then(item, function(shared, item))` for every item.

        Args:
            function: a function of a module, which may run in another process.
            shared: what it needs besides the item; sent once.
            items: one call each; taken when there is room for more.
            then: runs in this process, maybe on another thread.
        """
        ...


Edit = Callable[[pa.RecordBatch, NDArray[np.int64]], pa.RecordBatch]
"""Takes rows of a piece, and which they are (their places in it, ascending); returns them changed."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to the rows of a piece before some looks.

    Attributes:
        edit: does it; None where the part of a rewrite, which says what becomes of which row, is still to be made.
        look: makes that part, as the name of a look.
        key: of that part.
    """

    edit: Edit | None = None
    look: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A look at a piece.

    Attributes:
        key: of the part that it makes.
        look: its name.
        depth: how many of the changes come before it.
        places: rows of the piece to look at; None for all.
        columns: that it reads; none where it may read all.
    """

    key: str
    look: str
    depth: int = 0
    places: NDArray[np.int64] | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """Tasks for a piece, which is read once for all of them."""

    piece: Piece
    changes: tuple[Change, ...]
    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class Shared:
    """What all work needs."""

    source: Source
    looks: Mapping[str, Look]


def examine(shared: Shared, work: Work) -> dict[str, pa.RecordBatch]:
    """Do the tasks of a piece; returns the parts by their keys."""
    found: dict[str, pa.RecordBatch] = {}
    named = [task.columns for task in work.tasks]
    columns = sorted({name for names in named for name in names}) if all(named) and not work.changes else ()
    depth, batch, everyone = 0, shared.source.load(work.piece, columns), np.arange(work.piece.rows)
    for task in sorted(work.tasks, key=lambda task: task.depth):
        while depth < task.depth:
            change = work.changes[depth]
            part = found.get(change.key)
            batch = changed(shared, change, batch, everyone) if part is None else Patch(part)(batch, everyone)
            depth += 1
        rows = batch if task.places is None else batch.take(pa.array(task.places))
        found[task.key] = shared.looks[task.look](rows)
    return found


def changed(shared: Shared, change: Change, rows: pa.RecordBatch, places: NDArray[np.int64]) -> pa.RecordBatch:
    """Rows of a piece, by their places in it, ascending, after a change."""
    if change.edit is not None:
        return change.edit(rows, places)
    return Patch(shared.looks[change.look](rows))(rows, np.arange(rows.num_rows))


def replaced(rows: pa.RecordBatch, at: NDArray[np.int64], fresh: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with others in some places, ascending."""
    if not len(at):
        return rows
    order = np.arange(rows.num_rows)
    order[at] = rows.num_rows + np.arange(len(at))
    return pa.Table.from_batches([rows, fresh]).take(pa.array(order)).combine_chunks().to_batches()[0]


@dataclass(frozen=True, slots=True)
class Patch:
    """Puts what a rewrite made of some rows in their places.

    Attributes:
        part: those rows, and in `place` where in the piece they stand, ascending.
    """

    part: pa.RecordBatch

    def __call__(self, batch: pa.RecordBatch, places: NDArray[np.int64]) -> pa.RecordBatch:
        """Rows, by their places in the piece, after the rewrite."""
        known = self.part.column("place").to_numpy()
        here = np.flatnonzero(np.isin(places, known))
        fresh = self.part.take(pa.array(np.searchsorted(known, places[here])))
        return replaced(batch, here, fresh.select(batch.schema.names))


def key_of(*parts: str | bytes | pa.Buffer) -> str:
    """A name for what follows from some parts."""
    told = sha256(FORMAT.encode())
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        told.update(len(data).to_bytes(8, "little"))
        told.update(data)
    return told.hexdigest()[:40]
