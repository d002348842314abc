"""Which rows go into which file: decided by numbers alone, before any row is read again.

So files can be written anywhere and in any order, and one that would be as it was before is not written at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.pieces import Change, Piece, Shared, changed
from anneal.kit.manifests import Part


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
        segments: its rows, in their order.
        why: columns to add to removed rows.
    """

    key: str
    part: Part
    split: str
    segments: Sequence[Segment]
    why: pa.Table | None = field(default=None)

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return sum(len(segment.places) for segment in self.segments)


def cut(
    numbers: NDArray[np.int64], sizes: NDArray[np.int64], max_rows: int, max_bytes: int
) -> Iterator[NDArray[np.int64]]:
    """Rows in runs of one file each: a run ends with the row that makes it `max_rows`, or at least `max_bytes`.

    Args:
        numbers: of the rows, ascending.
        sizes: of each in bytes.
        max_rows: most rows of a file.
        max_bytes: see above.
    """
    ends = np.cumsum(sizes)
    start, before = 0, 0
    while start < len(numbers):
        filling = int(np.searchsorted(ends, before + max_bytes)) + 1
        stop = min(filling, start + max_rows, len(numbers))
        yield numbers[start:stop]
        start, before = stop, int(ends[stop - 1])


def assemble(shared: Shared, file: File) -> pa.Table:
    """The rows of a file."""
    rows = pa.Table.from_batches([_rows_of(shared, segment) for segment in file.segments])
    if file.why is not None:
        for name, column in zip(file.why.schema, file.why.columns, strict=True):
            rows = rows.append_column(name, column)
    return rows


def _rows_of(shared: Shared, segment: Segment) -> pa.RecordBatch:
    found: list[pa.RecordBatch] = []
    order: list[NDArray[np.int64]] = []
    last = int(segment.depths.max())
    for depth, batch in changed(shared, segment.piece, segment.changes[:last]):
        here = np.flatnonzero(segment.depths == depth)
        if len(here) == len(segment.places) and np.array_equal(segment.places, np.arange(batch.num_rows)):
            return batch
        if len(here):
            found.append(batch.take(pa.array(segment.places[here])))
            order.append(here)
    if len(found) == 1:
        return found[0]
    back = np.argsort(np.concatenate(order))
    return pa.Table.from_batches(found).take(pa.array(back)).combine_chunks().to_batches()[0]
