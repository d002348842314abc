"""Rows that are worked on together, and what is looked at in them, wherever that happens.

A piece is a run of rows of one shard. What a step finds in it is a *part*: a small table that follows from the rows,
the changes made to them before, and the step alone. So parts can be made on any thread or machine, kept, and found
again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.steps.base import Assigner, Rewriter, RowFilter
from anneal.curation.domain.texts import whole_of
from anneal.kit.records import conversation_id, document_id
from anneal.kit.shards import row_bytes

Look = Callable[[pa.RecordBatch], pa.RecordBatch]
Result = TypeVar("Result")

FORMAT = "anneal-curation-part/2"
DIGEST_LETTERS, ID_BYTES = 64, 16
"""So much of an id decides its place in an order: 64 bits of a digest in hex, which two of ten million share by chance
once in 300,000 datasets; their sources decide then."""
VERDICTS = pa.schema(
    [("place", pa.int32()), ("reason", pa.string()), ("numbers", pa.string()), ("duplicate_of", pa.string())]
)


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

    def put(self, key: str, part: pa.RecordBatch) -> None:
        """Keep a part."""
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


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to the rows of a piece before some looks: a rewrite by its name, or scores given to some rows."""

    rewrite: str = ""
    scores: Look | None = None


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


def examine(shared: Shared, work: Work) -> list[tuple[str, pa.RecordBatch]]:
    """Do the tasks of a piece: the key of each part, and the part."""
    found = []
    named = [task.columns for task in work.tasks]
    columns = sorted({name for names in named for name in names}) if all(named) and not work.changes else ()
    versions = changed(shared, work.piece, work.changes, columns)
    depth, batch = next(versions)
    for task in sorted(work.tasks, key=lambda task: task.depth):
        while depth < task.depth:
            depth, batch = next(versions)
        rows = batch if task.places is None else batch.take(pa.array(task.places))
        found.append((task.key, shared.looks[task.look](rows)))
    return found


def changed(
    shared: Shared, piece: Piece, changes: Sequence[Change], columns: Sequence[str] = ()
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of a piece as they came, then after each change, with the number of changes made."""
    batch = shared.source.load(piece, columns)
    yield 0, batch
    for depth, change in enumerate(changes, 1):
        batch = change.scores(batch) if change.scores is not None else shared.looks[change.rewrite](batch)
        yield depth, batch


# -- looks ---------------------------------------------------------------------------------------------------------


def identify(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Id and source of each row, which every run needs of some rows."""
    return batch.select(["id", "source"])


def measure(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Size of each row in bytes, and the first half of its id as two numbers, which every run needs of all rows."""
    size = row_bytes(pa.Table.from_batches([batch])).cast(pa.int64())
    halves = leading(batch.column("id"))
    columns = [size, *(pa.array(np.ascontiguousarray(halves[:, half])) for half in range(2))]
    return pa.RecordBatch.from_arrays(columns, names=["bytes", "high", "low"])


def leading(ids: pa.Array) -> NDArray[np.uint64]:
    """The first `ID_BYTES` of each id as two numbers that stand in the order of the bytes, shape (rows, 2)."""
    if pc.all(pc.equal(pc.fill_null(pc.binary_length(ids), 0), DIGEST_LETTERS), min_count=0).as_py():
        _, bounds, data = ids.buffers()
        first = np.frombuffer(bounds, dtype=np.int32)[ids.offset] if len(ids) else 0
        octets = np.frombuffer(data, dtype=np.uint8)[first:] if len(ids) else np.zeros(0, dtype=np.uint8)
        octets = octets[: len(ids) * DIGEST_LETTERS].reshape(-1, DIGEST_LETTERS)[:, :ID_BYTES]
        return np.ascontiguousarray(octets).view(">u8").astype(np.uint64)
    padded = pc.utf8_slice_codeunits(pc.utf8_rpad(pc.fill_null(ids, ""), ID_BYTES, "\0"), 0, ID_BYTES)
    fixed = pc.binary_slice(padded.cast(pa.binary()), 0, ID_BYTES).cast(pa.binary(ID_BYTES))
    octets = np.frombuffer(fixed.buffers()[1], dtype=np.uint8)[fixed.offset * ID_BYTES :][: len(ids) * ID_BYTES]
    return octets.reshape(-1, 2, 8).view(">u8").reshape(-1, 2).astype(np.uint64)


@dataclass(frozen=True, slots=True)
class Judging:
    """The verdicts of a filter, one row for each row that leaves."""

    step: RowFilter

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Judge rows."""
        removals = sorted(self.step.judge(batch).items())
        numbers = [json.dumps(dict(why.numbers), sort_keys=True, ensure_ascii=False) for _, why in removals]
        columns = [
            [place for place, _ in removals],
            [why.reason for _, why in removals],
            numbers,
            [why.duplicate_of for _, why in removals],
        ]
        arrays = [pa.array(values, type=field.type) for values, field in zip(columns, VERDICTS, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=VERDICTS)


@dataclass(frozen=True, slots=True)
class Assigning:
    """The split of each row."""

    step: Assigner

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Assign rows."""
        splits = pa.array(list(self.step.assign(batch)), type=pa.string()).dictionary_encode()
        return pa.RecordBatch.from_arrays([splits], names=["split"])


@dataclass(frozen=True, slots=True)
class Rewriting:
    """Rows after a rewrite: those whose content is another have a new id, and the old one among their parents."""

    step: Rewriter

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rewrite rows."""
        fresh = self.step.rewrite(batch)
        differs = pc.indices_nonzero(pc.not_equal(whole_of(fresh), whole_of(batch))).to_numpy()
        if not len(differs):
            return fresh
        rows = fresh.take(pa.array(differs)).to_pylist()
        for row in rows:
            _give_id(row)
        table = pa.Table.from_batches([fresh, pa.RecordBatch.from_pylist(rows, schema=fresh.schema)])
        order = np.arange(batch.num_rows)
        order[differs] = batch.num_rows + np.arange(len(differs))
        return table.take(pa.array(order)).combine_chunks().to_batches()[0]


def _give_id(row: dict[str, Any]) -> None:
    old = row["id"]
    if "messages" in row:
        row["id"] = conversation_id(row["messages"], row["tools"])
        row["parents"] = [*(row["parents"] or []), old]
        return
    row["id"] = document_id(row["text"])
    meta = json.loads(row["meta"] or "{}")
    row["meta"] = json.dumps({**meta, "rewritten_from": old}, sort_keys=True, ensure_ascii=False)


# -- keys ----------------------------------------------------------------------------------------------------------


def key_of(*parts: str | bytes | pa.Buffer) -> str:
    """A name for what follows from some parts."""
    told = sha256(FORMAT.encode())
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        told.update(len(data).to_bytes(8, "little"))
        told.update(data)
    return told.hexdigest()[:40]
