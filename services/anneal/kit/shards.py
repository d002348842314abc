"""Where one shard of a dataset ends and the next begins: decided by the rows alone, never by how they came in."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc


class Cutter:
    """Cuts rows that come in tables of any size into shards.

    A shard ends with the row that fills it: the one that makes it `max_rows` rows, or at least `max_bytes` bytes as
    `row_bytes` counts them.
    """

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._begin()

    def _begin(self) -> None:
        self._waiting: list[pa.Table] = []
        self._rows = self._bytes = 0

    def add(self, table: pa.Table) -> Iterator[pa.Table]:
        """Take rows; yields every shard that they fill."""
        ends = pc.cumulative_sum(row_bytes(table)).to_pylist()  # bytes up to the end of each row
        start, before = 0, 0
        while start < table.num_rows:
            filling = bisect_left(ends, before + self._max_bytes - self._bytes) + 1
            stop = min(filling, start + self._max_rows - self._rows, table.num_rows)
            self._waiting.append(table.slice(start, stop - start))
            self._rows += stop - start
            self._bytes += ends[stop - 1] - before
            start, before = stop, ends[stop - 1]
            if self._rows >= self._max_rows or self._bytes >= self._max_bytes:
                yield from self.rest()

    def rest(self) -> Iterator[pa.Table]:
        """The shard that is not full, if it has a row."""
        if self._waiting:
            whole = pa.concat_tables(self._waiting).combine_chunks()
            self._begin()
            yield whole


def row_bytes(table: pa.Table) -> pa.Array:
    """Size of each row in bytes, as int64: its values, and 4 for each text or list; nothing for what is null."""
    sizes = pa.repeat(pa.scalar(0, pa.int64()), table.num_rows)
    for column in table.columns:
        chunks = [_value_bytes(chunk) for chunk in column.chunks]
        sizes = pc.add(sizes, pa.concat_arrays([sizes.slice(0, 0), *chunks]))
    return sizes


def _value_bytes(values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_struct(kind):
        return reduce(pc.add, [_value_bytes(part) for part in values.flatten()])
    if pa.types.is_map(kind):
        kind = pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))
        values = values.cast(kind)
    if pa.types.is_list(kind):
        bounds = _sums(_counts(pc.list_value_length(values)))
        ends = _sums(_value_bytes(values.flatten())).take(bounds)
        return pc.add(pc.subtract(ends.slice(1), ends.slice(0, len(values))), 4)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return pc.add(_counts(pc.binary_length(values)), 4)
    return pa.repeat(pa.scalar(kind.bit_width // 8, pa.int64()), len(values))


def _counts(values: pa.Array) -> pa.Array:
    return pc.fill_null(values, 0).cast(pa.int64())


def _sums(values: pa.Array) -> pa.Array:
    """0, the first, the first two, and so on: one more than there are values."""
    return pc.cumulative_sum(pa.concat_arrays([pa.array([0], pa.int64()), values]))
