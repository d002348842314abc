"""Files to document rows: each is parsed in a process of its own, cut where that is asked for, or set aside by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.chunks import cut
from anneal.ingestion.adapters.parsers import media_type_of
from anneal.ingestion.adapters.parts import Outcome
from anneal.ingestion.adapters.rows import is_unicode
from anneal.ingestion.domain.documents import ParsedDocument
from anneal.ingestion.domain.errors import UndecodableText, UnreadableDocument
from anneal.kit import records
from anneal.v1 import ingestion_service_pb2 as pb

Parse = Callable[[str, bytes, str], ParsedDocument]
"""Parses `(media type, bytes, path)`."""


def add_file(
    outcome: Outcome, uri: str, data: bytes, request: pb.IngestDocumentsRequest, parse: Parse, max_bytes: int
) -> None:
    """Add one file's rows to an outcome, or why there are none."""
    outcome.files += 1
    outcome.size_bytes += len(data)

    def quarantine(reason: str, cause: str, byte_offset: int = 0) -> None:
        raw = data[byte_offset : byte_offset + records.RAW_LIMIT]
        where = uri.encode("utf-8", errors="backslashreplace").decode()
        outcome.quarantined.append(
            records.quarantined(where, byte_offset=byte_offset, cause=cause, reason=reason, raw=raw)
        )

    if not is_unicode(uri):
        return quarantine("invalid_unicode", "the file's name is not UTF-8")
    if len(data) > max_bytes:
        return quarantine("file_too_large", f"the file is larger than {max_bytes} bytes")
    media_type = request.media_type or media_type_of(data, uri)
    if media_type is None:
        return quarantine("unknown_media_type", "no parser reads this kind of file")
    try:
        document = parse(media_type, data, uri)
    except UndecodableText as error:
        return quarantine("invalid_encoding", str(error), error.byte_offset)
    except UnreadableDocument as error:
        return quarantine(error.reason, str(error))
    if not document.text.strip():
        return quarantine("empty", f"the file has no text{_what_else(document)}")
    outcome.rows.extend(_rows(document, request))
    _warn(outcome, document)


def _warn(outcome: Outcome, document: ParsedDocument) -> None:
    for name, count in document.warnings.items():
        outcome.warnings[name] = outcome.warnings.get(name, 0) + count


def _what_else(document: ParsedDocument) -> str:
    named = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in document.warnings.items())
    return f" ({named})" if named else ""


def warning_lines(warnings: Mapping[str, int]) -> Iterator[str]:
    """What a job says about what was left out or is uncertain, in words; each document's `meta` has its own numbers."""
    for name, count in sorted(Counter(warnings).items()):
        yield f"{count} {name.replace('_', ' ')} (meta.parsing.warnings of each document says how many)"


def _rows(document: ParsedDocument, request: pb.IngestDocumentsRequest) -> Iterator[dict[str, Any]]:
    def row(text: str, meta: Mapping[str, Any]) -> dict[str, Any]:
        return records.document(
            text,
            uri=document.uri,
            title=document.title,
            media_type=document.media_type,
            language=document.language or "",
            license=request.license,
            meta=meta,
        )

    whole = row(document.text, document.meta())
    if not request.HasField("chunking"):
        yield whole
        return
    chunking = request.chunking
    limits = (chunking.max_characters, chunking.overlap_characters, chunking.min_characters)
    for chunk in cut(document, *limits):
        place = {"document": whole["id"], "index": chunk.index, "start": chunk.start, "end": chunk.end}
        meta: dict[str, Any] = {"chunk": {**place, **document.place(chunk.start, chunk.end)}}
        if document.properties:
            meta["properties"] = dict(document.properties)
        yield row(document.text[chunk.start : chunk.end], meta)
