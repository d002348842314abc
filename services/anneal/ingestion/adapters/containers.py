"""Rows out of files, one at a time and within limits: JSONL, JSON, CSV, Parquet, Arrow, plain text.

A row that cannot be read comes out as a `Broken` with its byte offset; it never ends the file.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from anneal.ingestion.domain.errors import FormatUnknown

_HEAD = 1 << 16
_KEEP = 4 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A row: where it begins, and what it says. For columnar files the offset is the number of the row."""

    byte_offset: int
    line: int
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A row that cannot be read, and its first bytes."""

    byte_offset: int
    line: int
    reason: str
    cause: str
    raw: bytes


Rows = Iterator[Found | Broken]


def detect_container(path: Path) -> str:
    """The container of a file, by its content and, for text, by what its first line looks like."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1"):
        return "arrow"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        return "json"
    if text.startswith(b"{"):
        return "jsonl" if _is_one_line_object(text) or b"\n{" in text else "json"
    if b"\0" in head:
        raise FormatUnknown("the file is binary and neither Parquet nor Arrow", violations=[("container", "unknown")])
    first = text.split(b"\n", 1)[0]
    if path.suffix.lower() in (".csv", ".tsv") or (b"," in first and _looks_like_header(first)):
        return "csv"
    return "txt"


def _is_one_line_object(text: bytes) -> bool:
    return text.split(b"\n", 1)[0].rstrip().endswith(b"}")


def _looks_like_header(line: bytes) -> bool:
    names = [name.strip().strip(b'"') for name in line.split(b",")]
    return bool(set(names) & {b"instruction", b"output", b"prompt", b"completion", b"text", b"messages"})


def read_rows(path: Path, container: str, *, max_line_bytes: int, max_depth: int) -> Rows:
    """The rows of a file in their order.

    Args:
        path: the file.
        container: a name from `CONTAINERS`.
        max_line_bytes: longer lines (for JSON: files) are not held in memory.
        max_depth: deepest nesting of a JSON row.
    """
    match container:
        case "jsonl":
            yield from _jsonl(path, max_line_bytes, max_depth)
        case "json":
            yield from _json(path, max_depth)
        case "csv":
            yield from _csv(path, max_line_bytes)
        case "parquet":
            yield from _columns(pq.ParquetFile(path).iter_batches(batch_size=1024))
        case "arrow":
            yield from _columns(_arrow_batches(path))
        case _:
            yield from _text(path, max_line_bytes)


def _lines(file: BinaryIO, limit: int) -> Iterator[tuple[int, int, bytes, bool]]:
    """Lines with offset and number; of a line beyond the limit only the beginning, marked, and never more in memory."""
    offset, number = 0, 0
    while line := file.readline(limit + 1):
        number += 1
        start, whole = offset, line
        offset += len(line)
        too_long = len(line) > limit and not line.endswith(b"\n")
        while too_long and (rest := file.readline(limit)):
            offset += len(rest)
            if rest.endswith(b"\n"):
                break
        yield start, number, whole[:_KEEP] if too_long else whole, too_long


def _jsonl(path: Path, limit: int, max_depth: int) -> Rows:
    with path.open("rb") as file:
        for offset, number, line, too_long in _lines(file, limit):
            data = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not data.strip():
                continue
            if too_long:
                cause = f"the line is longer than {limit} bytes"
                yield Broken(byte_offset=offset, line=number, reason="line_too_long", cause=cause, raw=data)
                continue
            yield _object(data, offset, number, max_depth)


def _object(data: bytes, offset: int, number: int, max_depth: int) -> Found | Broken:
    """One JSON object."""

    def broken(reason: str, cause: str) -> Broken:
        return Broken(byte_offset=offset, line=number, reason=reason, cause=cause, raw=data[:_KEEP])

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return broken("invalid_utf8", f"byte {offset + error.start} is not UTF-8")
    if _depth_exceeds(text, max_depth):
        return broken("nested_too_deep", f"the row is nested deeper than {max_depth}")
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        return broken("invalid_json", str(error)[:300])
    if not isinstance(value, dict):
        return broken("wrong_type", f"the row is a JSON {type(value).__name__}, not an object")
    return Found(byte_offset=offset, line=number, row=value)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _depth_exceeds(text: str, limit: int) -> bool:
    """Whether brackets outside strings nest deeper; without recursion, so that depth 10^5 does no harm."""
    if text.count("[") + text.count("{") <= limit:
        return False
    depth, in_string, escaped = 0, False, False
    for char in text:
        if in_string:
            in_string = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_string, escaped = True, False
        elif char in "[{":
            depth += 1
            if depth > limit:
                return True
        elif char in "]}":
            depth -= 1
    return False


def _json(path: Path, max_depth: int) -> Rows:
    """A JSON list of objects, or one object; read item by item, so that one bad item costs only itself."""
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    for start, end in _items(data):
        yield _object(data[start:end], start, data.count(b"\n", 0, start) + 1, max_depth)


def _items(data: bytes) -> Iterator[tuple[int, int]]:
    """Where the items of the outermost list are; the whole where there is no list."""
    stripped = data.strip()
    begin = data.find(stripped[:1]) if stripped else 0
    if not stripped.startswith(b"["):
        if stripped:
            yield begin, len(data)
        return
    depth, in_string, escaped, start = 0, False, False, begin + 1
    for index in range(begin, len(data)):
        byte = data[index]
        if in_string:
            in_string = escaped or byte != 0x22
            escaped = byte == 0x5C and not escaped
        elif byte == 0x22:
            in_string, escaped = True, False
        elif byte in b"[{":
            depth += 1
        elif byte in b"]}":
            depth -= 1
        if not in_string and ((byte == 0x2C and depth == 1) or depth == 0):
            if data[start:index].strip():
                lead = len(data[start:index]) - len(data[start:index].lstrip())
                yield start + lead, index
            start = index + 1
            if depth == 0:
                return
    if data[start:].strip():
        yield start, len(data)


def _csv(path: Path, limit: int) -> Rows:
    """CSV with a header line; offsets are those of the record's first line."""
    csv.field_size_limit(limit)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    position = [0, 0, 0]  # offset behind the last line, offset where the record began, lines read

    def lines(file: BinaryIO) -> Iterator[str]:
        for raw in file:
            position[0] += len(raw)
            position[2] += 1
            yield raw.decode("utf-8", errors="surrogateescape")

    with path.open("rb") as file:
        if file.read(3) != b"\xef\xbb\xbf":
            file.seek(0)
        reader = csv.reader(lines(file), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        while True:
            start, line = position[0], position[2] + 1
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Broken(byte_offset=start, line=line, reason="invalid_csv", cause=str(error), raw=b"")
                continue
            if header is None:
                header = record
            elif record:
                yield _record(header, record, start, line)


def _record(header: list[str], record: list[str], offset: int, line: int) -> Found | Broken:
    raw = ",".join(record).encode("utf-8", errors="surrogateescape")[:_KEEP]
    if len(record) != len(header):
        cause = f"{len(record)} fields, the header has {len(header)}"
        return Broken(byte_offset=offset, line=line, reason="wrong_field_count", cause=cause, raw=raw)
    if any("\udc80" <= char <= "\udcff" for field in record for char in field):
        return Broken(byte_offset=offset, line=line, reason="invalid_utf8", cause="a field is not UTF-8", raw=raw)
    row = {
        name: _parsed(value) if name in ("messages", "conversations", "tools") else value
        for name, value in zip(header, record, strict=True)
    }
    return Found(byte_offset=offset, line=line, row=row)


def _parsed(value: str) -> Any:
    """Columns that hold JSON in files that know only text."""
    try:
        return json.loads(value) if value else None
    except (ValueError, RecursionError):
        return value


def _arrow_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)


def _columns(batches: Iterator[pa.RecordBatch]) -> Rows:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            yield Found(byte_offset=number, line=number + 1, row=row)
            number += 1


def _text(path: Path, limit: int) -> Rows:
    """Paragraphs: blocks of lines between blank ones."""
    block, begin, first = io.StringIO(), 0, 0
    with path.open("rb") as file:
        for offset, number, line, too_long in _lines(file, limit):
            if too_long:
                cause = f"the line is longer than {limit} bytes"
                yield Broken(byte_offset=offset, line=number, reason="line_too_long", cause=cause, raw=line)
                continue
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                cause = f"byte {offset + error.start} is not UTF-8"
                yield Broken(byte_offset=offset, line=number, reason="invalid_utf8", cause=cause, raw=line[:_KEEP])
                continue
            if text.strip():
                if not block.tell():
                    begin, first = offset, number
                block.write(text)
            elif block.tell():
                yield Found(byte_offset=begin, line=first, row={"text": block.getvalue().strip()})
                block = io.StringIO()
    if block.tell():
        yield Found(byte_offset=begin, line=first, row={"text": block.getvalue().strip()})
