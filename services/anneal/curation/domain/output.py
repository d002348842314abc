"""Which rows go into which file: decided by numbers alone, before any row is read again.

So files can be written anywhere and in any order, and one that would be as it was before is not written at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.pieces import Change, Piece, Shared, changed
from anneal.kit.manifests import Part
from anneal.kit.sides import side_by_side


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows of a piece that go into a file.

    Attributes:
        places: which, ascending; one that is there more than once, as often.
        depths: how many of the changes had been made when a row was last seen, shape (rows,).
    """

    piece: Piece
    changes: tuple[Change, ...]
    places: NDArray[np.int64]
    depths: NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class File:
    """A file to be written.

    Attributes:
        key: equal keys have equal content.
        part: kept or removed rows.
        split: of kept rows; empty for removed ones.
        rows: how many rows it holds.
        segments: its rows, in their order.
        removals: how many of them left by which step and for which reason.
        why: columns to add to removed rows.
        alone: few files are written, and the segments of each are read on all cores.
    """

    key: str
    part: Part
    split: str
    rows: int
    segments: Sequence[Segment] = ()
    removals: Mapping[tuple[str, str], int] = field(default_factory=dict)
    why: pa.Table | None = field(default=None)
    alone: bool = False


def cut(
    sizes: NDArray[np.int64], marks: NDArray[np.uint64], max_rows: int, max_bytes: int
) -> Iterator[tuple[int, int]]:
    """Where the files of some rows begin and end.

    A file ends with the row that makes it `max_rows`, or at least `max_bytes`. From 1/32 of either on it ends with the
    first row whose mark has its last bits 0, which is one in a third of `max_rows` or somewhat fewer. So where rows
    came or left, the files around them change and soon end where they did before, and the others stay as they are.

    Args:
        sizes: of each row in bytes, shape (rows,).
        marks: random bits that follow from the row, shape (rows,).
        max_rows: most rows of a file.
        max_bytes: see above.
    """
    ends = np.cumsum(sizes)
    rare = max(1 << (max_rows // 3).bit_length() >> 1, 1)
    marked = np.flatnonzero(marks & np.uint64(rare - 1) == 0)
    start, before = 0, 0
    while start < len(sizes):
        few, full = (int(np.searchsorted(ends, before + size)) + 1 for size in (max_bytes // 32, max_bytes))
        few, full = min(few, start + max_rows // 32), min(full, start + max_rows, len(sizes))
        at = int(np.searchsorted(marked, max(few - 1, start)))
        stop = min(full, int(marked[at]) + 1) if at < len(marked) else full
        yield start, stop
        start, before = stop, int(ends[stop - 1])


def assemble(shared: Shared, file: File) -> pa.Table:
    """The rows of a file."""
    rows_of = partial(_rows_of, shared)
    rows = pa.Table.from_batches((side_by_side if file.alone else map)(rows_of, file.segments))
    if file.why is not None:
        for name, column in zip(file.why.schema, file.why.columns, strict=True):
            rows = rows.append_column(name, column)
    return rows


def _rows_of(shared: Shared, segment: Segment) -> pa.RecordBatch:
    """The rows of a segment. A change is made to those alone that were still seen after it."""
    places, spots = np.unique(segment.places, return_inverse=True)
    depths = np.zeros(len(places), dtype=np.int16)
    depths[spots] = segment.depths
    rows = shared.source.load(segment.piece)
    if len(places) < segment.piece.rows:
        rows = rows.take(pa.array(places))
    done: list[pa.RecordBatch] = []
    order: list[NDArray[np.int64]] = []
    left = np.arange(len(places))
    for depth in range(int(depths.max()) + 1):
        if depth:
            rows = changed(shared, segment.changes[depth - 1], rows, places[left])
        ready = depths[left] == depth
        if ready.any():
            everyone = bool(ready.all())
            done.append(rows if everyone else rows.filter(pa.array(ready)))
            order.append(left[ready])
            rows, left = rows if everyone else rows.filter(pa.array(~ready)), left[~ready]
    if len(done) == 1 and len(spots) == len(places):
        return done[0]
    back = np.argsort(np.concatenate(order))[spots]
    return pa.Table.from_batches(done).take(pa.array(back)).combine_chunks().to_batches()[0]
