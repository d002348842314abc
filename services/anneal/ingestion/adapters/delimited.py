"""Rows of CSV and TSV files with a header line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anneal.ingestion.adapters.lines import KEEP, Line, lines
from anneal.ingestion.adapters.rows import Broken, Found, Rows, loads, nests_deeper
from anneal.ingestion.domain.errors import FileUnreadable

# Columns that hold JSON where a file knows only text.
_JSON_COLUMNS = frozenset({"messages", "conversations", "tools", "history"})


class _TooLong(Exception):
    """A line is longer than the limit."""


class _Lines:
    """Feeds the reader of the standard library, and remembers where the current record began."""

    def __init__(self, source: Iterator[Line], limit: int) -> None:
        self._source = source
        self._limit = limit
        self.begin: Line | None = None
        self.held = bytearray()

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._source)
        if self.begin is None:
            self.begin, self.held = line, bytearray()
        if len(self.held) < KEEP:
            self.held += line.data[: KEEP - len(self.held)]
        if not line.is_whole:
            raise _TooLong(f"line {line.line} is longer than {self._limit} bytes")
        return line.data.decode("utf-8", errors="surrogateescape")


def read_csv(path: Path, name: str, *, max_line_bytes: int, max_depth: int) -> Rows:
    """The records below the header; the offset of one is that of its first line.

    A record that cannot be read ends where the reader gave up on it, so an open quote may take lines with it.

    Raises:
        FileUnreadable: the header cannot be read, or names a column twice.
    """
    csv.field_size_limit(max_line_bytes)
    delimiter = "\t" if Path(name).suffix.lower() == ".tsv" else ","
    header: list[str] | None = None
    with path.open("rb") as file:
        source = _Lines(lines(file, max_line_bytes), max_line_bytes)
        reader = csv.reader(source, delimiter=delimiter, strict=True)
        while True:
            source.begin = None
            try:
                record = next(reader)
            except StopIteration:
                return
            except (csv.Error, _TooLong) as error:
                if header is None:
                    raise FileUnreadable(f"{name}: the header cannot be read: {error}", file=name) from error
                reason = "line_too_long" if isinstance(error, _TooLong) else "invalid_csv"
                yield _broken(source, reason, str(error))
                continue
            if header is None:
                header = _checked(record, name)
            elif record:
                yield _record(header, record, source, max_depth)


def _checked(header: list[str], name: str) -> list[str]:
    header = [column.strip() for column in header]
    if len(set(header)) != len(header):
        raise FileUnreadable(f"{name}: the header names a column twice: {', '.join(header)}"[:500], file=name)
    return header


def _broken(source: _Lines, reason: str, cause: str) -> Broken:
    begin = source.begin
    if begin is None:
        return Broken(byte_offset=0, line=1, reason=reason, cause=cause, raw=b"")
    return Broken(byte_offset=begin.byte_offset, line=begin.line, reason=reason, cause=cause, raw=bytes(source.held))


def _record(header: list[str], record: list[str], source: _Lines, max_depth: int) -> Found | Broken:
    begin = source.begin
    if len(record) != len(header):
        return _broken(source, "wrong_field_count", f"{len(record)} fields, the header has {len(header)}")
    bad = next((field for field, value in zip(header, record, strict=True) if not _is_utf8(value)), None)
    if bad is not None:
        return _broken(source, "invalid_utf8", f"the field {bad!r} is not UTF-8")
    row: dict[str, Any] = dict(zip(header, record, strict=True))
    for column in _JSON_COLUMNS & row.keys():
        if nests_deeper(row[column], max_depth):
            return _broken(source, "nested_too_deep", f"the field {column!r} is nested deeper than {max_depth}")
        row[column] = _parsed(row[column])
    at, line = (begin.byte_offset, begin.line) if begin else (0, 1)
    return Found(byte_offset=at, line=line, row=row, raw=bytes(source.held).rstrip(b"\r\n"))


def _is_utf8(value: str) -> bool:
    return value.isascii() or not any("\udc80" <= char <= "\udcff" for char in value)


def _parsed(value: str) -> Any:
    try:
        return loads(value) if value else None
    except ValueError:
        return value
