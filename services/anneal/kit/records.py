"""The two row types of every dataset, and what is kept of rows that left."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from anneal.kit.digests import canonical_json, sha256_hex

RecordKind = Literal["document", "conversation"]

DOCUMENT = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("title", pa.string()),
        ("uri", pa.string()),
        ("media_type", pa.string()),
        ("language", pa.string()),
        ("source", pa.string()),
        ("license", pa.string()),
        ("meta", pa.string()),
    ]
)
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
CONVERSATION = pa.schema(
    [
        ("id", pa.string()),
        ("messages", pa.list_(MESSAGE)),
        ("tools", pa.string()),
        ("source", pa.string()),
        ("parents", pa.list_(pa.string())),
        ("origin", pa.string()),
        ("scores", pa.map_(pa.string(), pa.float64())),
        ("meta", pa.string()),
    ]
)
SCHEMAS: Mapping[str, pa.Schema] = {"document": DOCUMENT, "conversation": CONVERSATION}

REMOVED_FIELDS: Sequence[pa.Field] = (
    pa.field("removed_step", pa.string()),
    pa.field("removed_reason", pa.string()),
    pa.field("removed_numbers", pa.string()),
    pa.field("removed_duplicate_of", pa.string()),
)
QUARANTINE = pa.schema(
    [
        ("file", pa.string()),
        ("byte_offset", pa.int64()),
        ("line", pa.int64()),
        ("cause", pa.string()),
        ("reason", pa.string()),
        ("raw", pa.string()),
    ]
)
RAW_LIMIT = 2000


def removed_schema(kind: RecordKind) -> pa.Schema:
    """The columns of a removed row: the row's own, then why it left."""
    return pa.schema([*SCHEMAS[kind], *REMOVED_FIELDS])


def _json(value: Mapping[str, Any] | None) -> str:
    return json.dumps(value or {}, sort_keys=True, ensure_ascii=False, allow_nan=False)


def document_id(text: str) -> str:
    """Digest of a document's content: its text."""
    return sha256_hex(canonical_json({"text": text}))


def conversation_id(messages: Sequence[Mapping[str, str]], tools: str | None) -> str:
    """Digest of a conversation's content: its messages and tools."""
    turns = [[turn["role"], turn["content"]] for turn in messages]
    return sha256_hex(canonical_json({"messages": turns, "tools": tools}))


def document(
    text: str,
    *,
    uri: str,
    source: str | None = None,
    title: str = "",
    media_type: str = "text/plain",
    language: str = "",
    license: str = "",
    meta: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A document row. `source` groups rows of one origin and is the uri where not given."""
    return {
        "id": document_id(text),
        "text": text,
        "title": title,
        "uri": uri,
        "media_type": media_type,
        "language": language,
        "source": uri if source is None else source,
        "license": license,
        "meta": _json(meta),
    }


def conversation(
    messages: Sequence[Mapping[str, str]],
    *,
    source: str,
    tools: str | None = None,
    parents: Sequence[str] = (),
    origin: Mapping[str, Any] | None = None,
    scores: Mapping[str, float] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A conversation row.

    Args:
        messages: `{role, content}` in order.
        source: groups rows of one origin: the uri of the document or file.
        tools: JSON list of tools, if the conversation has any.
        parents: ids of the rows it was made from.
        origin: how the row came to be.
        scores: numbers given to the row.
        meta: anything else.
    """
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in messages]
    return {
        "id": conversation_id(turns, tools),
        "messages": turns,
        "tools": tools,
        "source": source,
        "parents": list(parents),
        "origin": _json(origin),
        "scores": sorted((scores or {}).items()),
        "meta": _json(meta),
    }


def quarantined(
    file: str, *, byte_offset: int, cause: str, reason: str, raw: bytes | str = "", line: int | None = None
) -> dict[str, Any]:
    """A row that could not be read: where it was, why, and its first 2000 characters (invalid bytes escaped)."""
    text = raw if isinstance(raw, str) else raw[: 4 * RAW_LIMIT].decode("utf-8", errors="backslashreplace")
    text = text.encode("utf-8", errors="backslashreplace").decode("utf-8")
    return {
        "file": file,
        "byte_offset": byte_offset,
        "line": line,
        "cause": cause[:RAW_LIMIT],
        "reason": reason,
        "raw": text[:RAW_LIMIT],
    }


def to_table(kind: RecordKind, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows as an Arrow table in the kind's schema."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMAS[kind])


def quarantine_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Quarantined rows as an Arrow table."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=QUARANTINE)
