"""Rows out of files, one at a time and within limits: JSONL, JSON, CSV, Parquet, Arrow, plain text.

A row that cannot be read comes out as a `Broken` with its byte offset; it never ends the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from anneal.ingestion.adapters.columnar import read_arrow, read_parquet
from anneal.ingestion.adapters.delimited import read_csv
from anneal.ingestion.adapters.json_items import items
from anneal.ingestion.adapters.lines import BOM, KEEP, lines
from anneal.ingestion.adapters.lists_inside import beside_after, list_inside
from anneal.ingestion.adapters.rows import Broken, Found, Rows, loads, nests_deeper
from anneal.ingestion.domain.errors import FormatUnknown

_HEAD = 1 << 16
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv"}
_COLUMNS = frozenset(
    {
        *(b"instruction", b"output", b"prompt", b"completion", b"text", b"messages", b"question", b"answer"),
        *(b"query", b"response", b"chosen", b"rejected", b"conversations"),
    }
)


def detect_container(path: Path, name: str) -> str:
    """The container of a file: by its first bytes, then by its name, then by what its first line looks like.

    Raises:
        FormatUnknown: the file is binary and neither Parquet nor Arrow.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1"):
        return "arrow"
    if b"\0" in head:
        cause = f"{name} is binary and neither Parquet nor Arrow"
        raise FormatUnknown(cause, violations=[("container", cause)])
    text = head.removeprefix(BOM).lstrip()
    suffix = _SUFFIXES.get(Path(name).suffix.lower())
    if suffix is not None:
        return suffix
    if text.startswith(b"["):
        return "json"
    if text.startswith(b"{"):
        return "jsonl" if _begins_with_an_object(text) and not _is_one_list(path, text) else "json"
    first = {part.strip().strip(b'"').lower() for part in text.split(b"\n", 1)[0].split(b",")}
    return "csv" if len(first) > 1 and first & _COLUMNS else "txt"


def _begins_with_an_object(text: bytes) -> bool:
    """Whether the first line is a whole object, or a later one begins like the first; else one object has many."""
    first = text.split(b"\n", 1)[0].rstrip()
    return b"\n{" in text or (first.endswith(b"}") and len(first) > 1)


def _is_one_list(path: Path, text: bytes) -> bool:
    """Whether a file is an object around a list of rows, and not lines that are objects with lists in them."""
    first, _, rest = text.partition(b"\n")
    if rest.strip() and _is_object(first):
        return False
    with path.open("rb") as file:
        return list_inside(file)[0] is not None


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(loads(line.decode("utf-8")), dict)
    except (ValueError, RecursionError):
        return False


def read_rows(path: Path, container: str, name: str, *, max_line_bytes: int, max_depth: int) -> Rows:
    """The rows of a file in their order.

    Args:
        path: the file.
        container: one of `CONTAINERS`.
        name: what the caller calls it.
        max_line_bytes: longer lines and records are not held in memory.
        max_depth: deepest nesting of a JSON row.

    Raises:
        FileUnreadable: the file is damaged as a whole.
    """
    match container:
        case "jsonl":
            yield from _jsonl(path, max_line_bytes, max_depth)
        case "json":
            yield from _json(path, max_line_bytes, max_depth)
        case "csv":
            yield from read_csv(path, name, max_line_bytes=max_line_bytes, max_depth=max_depth)
        case "parquet":
            yield from read_parquet(path, name)
        case "arrow":
            yield from read_arrow(path, name)
        case _:
            yield from _text(path, max_line_bytes)


def _jsonl(path: Path, limit: int, max_depth: int) -> Rows:
    with path.open("rb") as file:
        for line in lines(file, limit):
            if not line.is_whole:
                yield _too_long(line.byte_offset, line.line, line.data, limit)
            elif line.data.strip():
                yield _object(line.data, line.byte_offset, line.line, max_depth)


def _json(path: Path, limit: int, max_depth: int) -> Rows:
    """A JSON list of objects, also inside an object, or one object; item by item, so that a bad one costs itself."""
    with path.open("rb") as file:
        begin, beside = list_inside(file)
        if beside:
            file.seek(0)
            cause = f"this stands beside the list that holds the rows: {beside}"
            yield _broken(0, 1, "beside_the_list", cause, file.read(min(begin or 0, KEEP)))
        is_ended = begin is None
        for item in items(file, limit, begin):
            if begin is not None and not item.is_closed:
                is_ended = True
                if fault := beside_after(item.data):
                    yield _broken(item.byte_offset, item.line, *fault, item.data)
            elif not item.is_whole:
                yield _too_long(item.byte_offset, item.line, item.data, limit)
            elif not item.is_closed:
                cause = "the list's end is missing here, or this stands behind it"
                yield _broken(item.byte_offset, item.line, "invalid_json", cause, item.data)
            else:
                yield _object(item.data, item.byte_offset, item.line, max_depth)
        if not is_ended:
            yield _broken(file.tell(), 1, *(beside_after(b"") or ("", "")), b"")


def _broken(offset: int, number: int, reason: str, cause: str, raw: bytes) -> Broken:
    return Broken(byte_offset=offset, line=number, reason=reason, cause=cause, raw=raw[:KEEP])


def _too_long(offset: int, number: int, raw: bytes, limit: int) -> Broken:
    return _broken(offset, number, "line_too_long", f"the row is longer than {limit} bytes", raw)


def _object(data: bytes, offset: int, number: int, max_depth: int) -> Found | Broken:
    """One JSON object."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return _broken(offset, number, "invalid_utf8", f"byte {offset + error.start} is not UTF-8", data)
    if nests_deeper(text, max_depth):
        return _broken(offset, number, "nested_too_deep", f"the row is nested deeper than {max_depth}", data)
    try:
        value = loads(text)
    except ValueError as error:
        return _broken(offset, number, "invalid_json", str(error)[:300], data)
    if not isinstance(value, dict):
        return _broken(offset, number, "wrong_type", f"the row is a JSON {type(value).__name__}, not an object", data)
    return Found(byte_offset=offset, line=number, row=value, raw=data[:KEEP])


def _text(path: Path, limit: int) -> Rows:
    """Paragraphs: blocks of lines between blank ones."""
    with path.open("rb") as file:
        for offset, number, block, is_whole in _blocks(file, limit):
            if not is_whole:
                yield _too_long(offset, number, block, limit)
                continue
            try:
                text = block.decode("utf-8").strip()
                yield Found(byte_offset=offset, line=number, row={"text": text}, raw=block[:KEEP])
            except UnicodeDecodeError as error:
                yield _broken(offset, number, "invalid_utf8", f"byte {offset + error.start} is not UTF-8", block)


def _blocks(file: BinaryIO, limit: int) -> Iterator[tuple[int, int, bytes, bool]]:
    """Lines between blank ones together: offset, line, bytes, and whether all of them are there."""
    held, begin, first, is_whole = bytearray(), 0, 0, True
    for line in lines(file, limit):
        if not line.data.strip():
            if held:
                yield begin, first, bytes(held), is_whole
            held, is_whole = bytearray(), True
            continue
        if not held:
            begin, first = line.byte_offset, line.line
        is_whole = is_whole and line.is_whole and len(held) + len(line.data) <= limit
        if is_whole or len(held) < KEEP:
            held += line.data if is_whole else line.data[:KEEP]
        if not is_whole:
            del held[KEEP:]
    if held:
        yield begin, first, bytes(held), is_whole
