"""The three row types of every dataset, and what is kept of rows that left."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import pyarrow as pa

from anneal.kit.digests import canonical_json, sha256_hex
from anneal.kit.messages import Message, identity, plain_messages

RecordKind = Literal["document", "conversation", "preference"]

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
TOOL_CALL = pa.struct([("id", pa.string()), ("name", pa.string()), ("arguments", pa.string())])
MESSAGE = pa.struct(
    [
        ("role", pa.string()),
        ("content", pa.string()),
        ("name", pa.string()),
        ("tool_calls", pa.list_(TOOL_CALL)),
        ("tool_call_id", pa.string()),
        ("reasoning", pa.string()),
        ("weight", pa.float64()),
    ]
)
MESSAGES = pa.list_(MESSAGE)
MESSAGE_COLUMNS = ("messages", "chosen", "rejected")
"""The columns that hold messages, in the order in which they are read."""
_MADE: Sequence[tuple[str, pa.DataType]] = (
    ("source", pa.string()),
    ("parents", pa.list_(pa.string())),
    ("origin", pa.string()),
    ("scores", pa.map_(pa.string(), pa.float64())),
    ("meta", pa.string()),
)
CONVERSATION = pa.schema([("id", pa.string()), ("messages", MESSAGES), ("tools", pa.string()), *_MADE])
PREFERENCE = pa.schema(
    [
        ("id", pa.string()),
        ("messages", MESSAGES),
        ("chosen", MESSAGES),
        ("rejected", MESSAGES),
        ("tools", pa.string()),
        ("margin", pa.float64()),
        *_MADE,
    ]
)
SCHEMAS: Mapping[str, pa.Schema] = {"document": DOCUMENT, "conversation": CONVERSATION, "preference": PREFERENCE}

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
Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


def removed_schema(kind: RecordKind) -> pa.Schema:
    """The columns of a removed row: the row's own, then why it left."""
    return pa.schema([*SCHEMAS[kind], *REMOVED_FIELDS])


def up_to_date(table: Rows) -> Rows:
    """Rows as a shard holds them, with the fields that messages have gained since it was written, all absent.

    Takes tables and batches of any part and any choice of columns; those that are as they should be come back as such.
    """
    for name in MESSAGE_COLUMNS:
        place = table.schema.get_field_index(name)
        if place >= 0 and table.schema.field(place).type != MESSAGES:
            table = table.set_column(place, pa.field(name, MESSAGES), table.column(place).cast(MESSAGES))
    return table


def _json(value: Mapping[str, Any] | None) -> str:
    return json.dumps(value or {}, sort_keys=True, ensure_ascii=False, allow_nan=False)


def document_id(text: str) -> str:
    """Digest of a document's content: its text."""
    return sha256_hex(canonical_json({"text": text}))


def conversation_id(messages: Sequence[Message], tools: str | None) -> str:
    """Digest of a conversation's content: its messages and tools."""
    return sha256_hex(canonical_json({"messages": identity(messages), "tools": tools}))


def preference_id(
    messages: Sequence[Message],
    chosen: Sequence[Message] | None,
    rejected: Sequence[Message] | None,
    tools: str | None,
    margin: float | None = None,
) -> str:
    """Digest of a preference's content: its prompt, both answers, tools and margin; what is absent leaves no trace."""
    told: dict[str, Any] = {"prompt": identity(messages), "tools": tools}
    told |= {name: identity(side) for name, side in (("chosen", chosen), ("rejected", rejected)) if side}
    return sha256_hex(canonical_json(told if margin is None else {**told, "margin": float(margin)}))


def row_id(kind: RecordKind, row: Mapping[str, Any]) -> str:
    """Digest of the content of a row of a kind."""
    if kind == "document":
        return document_id(row["text"])
    if kind == "conversation":
        return conversation_id(row["messages"], row["tools"])
    return preference_id(row["messages"], row["chosen"], row["rejected"], row["tools"], row["margin"])


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
    messages: Sequence[Message],
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
        messages: `{role, content}` and what else a message has, in order.
        source: groups rows of one origin: the uri of the document or file.
        tools: JSON list of tools, if the conversation has any.
        parents: ids of the rows it was made from.
        origin: how the row came to be.
        scores: numbers given to the row.
        meta: anything else.
    """
    turns = plain_messages(messages)
    return {
        "id": conversation_id(turns, tools),
        "messages": turns,
        "tools": tools,
        **_common_columns(source, parents, origin, scores, meta),
    }


def preference(
    messages: Sequence[Message],
    *,
    chosen: Sequence[Message] | None,
    rejected: Sequence[Message] | None,
    source: str,
    tools: str | None = None,
    margin: float | None = None,
    parents: Sequence[str] = (),
    origin: Mapping[str, Any] | None = None,
    scores: Mapping[str, float] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A preference row: a prompt, and the answer that is wanted, the one that is not, or both.

    Args:
        messages: the prompt.
        chosen: the wanted answer; None where a labelled answer is unwanted.
        rejected: the unwanted answer; None where a labelled answer is wanted.
        source: groups rows of one origin: the uri of the document or file.
        tools: JSON list of tools, if the prompt has any.
        margin: by how much the one is better, where that is known.
        parents: ids of the rows it was made from.
        origin: how the row came to be.
        scores: numbers given to the row.
        meta: anything else.

    Raises:
        ValueError: neither answer is there.
    """
    if not chosen and not rejected:
        raise ValueError("a preference needs a chosen or a rejected answer")
    prompt = plain_messages(messages)
    wanted, unwanted = plain_messages(chosen) or None, plain_messages(rejected) or None
    return {
        "id": preference_id(prompt, wanted, unwanted, tools, margin),
        "messages": prompt,
        "chosen": wanted,
        "rejected": unwanted,
        "tools": tools,
        "margin": None if margin is None else float(margin),
        **_common_columns(source, parents, origin, scores, meta),
    }


def _common_columns(
    source: str,
    parents: Sequence[str],
    origin: Mapping[str, Any] | None,
    scores: Mapping[str, float] | None,
    meta: Mapping[str, Any] | None,
) -> dict[str, Any]:
    return {
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
