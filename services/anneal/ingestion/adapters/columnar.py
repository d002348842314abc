"""Rows of Parquet and Arrow files. Damage costs the rows it touches; only a file without a footer is lost whole.

The offset of a row is its number, since it has no bytes of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from anneal.ingestion.adapters.rows import Broken, Found, Rows
from anneal.ingestion.domain.errors import FileUnreadable

_BATCH_ROWS = 1024
# What pyarrow raises for damaged bytes, and for values that Python cannot hold (year 292277, bad UTF-8).
_DAMAGE = (pa.ArrowException, OSError, ValueError, OverflowError)


def read_parquet(path: Path, name: str) -> Rows:
    """The rows of a Parquet file, row group by row group.

    Raises:
        FileUnreadable: its footer is missing or damaged.
    """
    try:
        file = pq.ParquetFile(path)
    except _DAMAGE as error:
        raise _unreadable(name, "Parquet", error) from error
    with file:
        number = 0
        for group in range(file.metadata.num_row_groups):
            end = number + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group]):
                    yield from _rows(batch, number)
                    number += batch.num_rows
            except _DAMAGE as error:
                yield _broken(number, f"rows {number} to {end - 1} of row group {group} cannot be read: {error}")
            number = end


def read_arrow(path: Path, name: str) -> Rows:
    """The rows of an Arrow IPC file.

    Raises:
        FileUnreadable: its footer is missing or damaged.
    """
    try:
        source = pa.memory_map(str(path))
        reader = pa.ipc.open_file(source)
    except _DAMAGE as error:
        raise _unreadable(name, "Arrow", error) from error
    with source:
        number = 0
        for index in range(reader.num_record_batches):
            try:
                batch = reader.get_batch(index)
            except _DAMAGE as error:
                yield _broken(number, f"record batch {index}, from row {number} on, cannot be read: {error}")
                continue
            yield from _rows(batch, number)
            number += batch.num_rows


def _rows(batch: pa.RecordBatch, first: int) -> Iterator[Found | Broken]:
    """A batch at once, or, where something in it is bad, row by row.

    Nothing is looked at before it was validated: offsets that lie would read foreign memory.
    """
    try:
        batch.validate(full=True)
        rows = batch.to_pylist()
    except _DAMAGE:
        for index in range(batch.num_rows):
            yield from _row(batch.slice(index, 1), first + index)
        return
    for number, row in enumerate(rows, start=first):
        yield Found(byte_offset=number, line=number + 1, row=row)


def _row(batch: pa.RecordBatch, number: int) -> Iterator[Found | Broken]:
    try:
        batch.validate(full=True)
        yield Found(byte_offset=number, line=number + 1, row=batch.to_pylist()[0])
    except _DAMAGE as error:
        yield _broken(number, f"row {number} cannot be read: {error}")


def _broken(number: int, cause: str) -> Broken:
    return Broken(byte_offset=number, line=number + 1, reason="unreadable_row", cause=cause[:500], raw=b"")


def _unreadable(name: str, kind: str, error: Exception) -> FileUnreadable:
    return FileUnreadable(f"{name} is no {kind} file that can be read: {error}"[:500], file=name)
