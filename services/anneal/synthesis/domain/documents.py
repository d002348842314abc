"""Documents as synthesis reads them, and the passages a task can be asked over."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from anneal.synthesis.domain.rows import MAX_RAW_CHARACTERS, Malformed
from anneal.synthesis.domain.sentences import one_line


class Over(StrEnum):
    """What one row is made from."""

    SPANS = "spans"
    SECTIONS = "sections"
    DOCUMENTS = "documents"
    ROWS = "rows"


class BadDocument(ValueError):
    """A row whose `meta` breaks the agreement on sections and spans; it is quarantined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One row of the input, its JSON columns decoded.

    Attributes:
        source: group key of every row made from it, so that siblings never straddle a split.
        meta: `sections` and `spans` carry character offsets into `text`.
        columns: the whole row, for tasks over rows.
    """

    id: str
    text: str
    title: str
    source: str
    uri: str
    language: str
    meta: Mapping[str, Any]
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A part of a document that a task is asked over.

    Attributes:
        type, domain: the markup's own words for what the passage is ("function" in "py").
        start, end: character offsets into the document's text.
        body: the passage's own text: it stops where a nested passage begins.
    """

    document: Document
    over: Over
    name: str
    type: str
    start: int
    end: int
    body: str
    level: int = 0
    domain: str = ""
    signature: str = ""
    params: tuple[str, ...] = ()
    section: str = ""

    @property
    def entry(self) -> str:
        """Signature and own text, as the document shows them."""
        return f"{self.signature}\n{self.body}" if self.signature else self.body

    @property
    def place(self) -> dict[str, Any]:
        """Where the passage stands, for the origin of a row."""
        return {"document": self.document.id, "name": self.name, "start": self.start, "end": self.end}

    @property
    def byte_offset(self) -> int:
        """Offset of the passage in the document's UTF-8 text."""
        return len(self.document.text[: self.start].encode())


def read_document(row: Mapping[str, Any]) -> Document:
    """Decode one row of a documents or a conversations dataset.

    Raises:
        BadDocument: a JSON column does not parse or `meta` is not an object.
    """
    columns = dict(row)
    for name in ("meta", "origin"):
        if isinstance(columns.get(name), str):
            try:
                columns[name] = json.loads(columns[name] or "{}")
            except (ValueError, RecursionError) as error:
                raise BadDocument(f"column {name!r} is not JSON: {error}") from error
    meta = columns.get("meta") or {}
    if not isinstance(meta, dict):
        raise BadDocument("column 'meta' is not a JSON object")
    return Document(
        id=str(row["id"]),
        text=row.get("text") or "",
        title=row.get("title") or "",
        source=row.get("source") or row.get("uri") or str(row["id"]),
        uri=row.get("uri") or "",
        language=row.get("language") or "",
        meta=meta,
        columns=columns,
    )


def read_passages(row: Mapping[str, Any], over: Over) -> list[Passage] | Malformed:
    """The passages of one row of the input, or why it has none that can be trusted."""
    try:
        return list(passages(read_document(row), over))
    except BadDocument as error:
        raw = str(row.get("meta"))[:MAX_RAW_CHARACTERS]
        file = str(row.get("uri") or row.get("source") or row.get("id"))
        return Malformed(file=file, byte_offset=0, cause="bad_document", reason=str(error), raw=raw)


def passages(document: Document, over: Over) -> Iterator[Passage]:
    """The passages of a document in reading order.

    Raises:
        BadDocument: an offset lies outside the text or a field is missing.
    """
    if over is Over.SPANS:
        yield from _spans(document)
    elif over is Over.SECTIONS:
        yield from _sections(document)
    else:
        text = document.text
        yield Passage(
            document=document, over=over, name=document.title, type=str(over), start=0, end=len(text), body=text.strip()
        )


def _spans(document: Document) -> Iterator[Passage]:
    found = _ordered(document, "spans")
    sections = _ordered(document, "sections")
    for index, span in enumerate(found):
        start, end, body_start = (_offset(document, span, key) for key in ("start", "end", "body_start"))
        yield Passage(
            document=document,
            over=Over.SPANS,
            name=str(span.get("name") or ""),
            type=str(span.get("type") or ""),
            start=start,
            end=end,
            body=document.text[body_start : _own_end(found, index, body_start, end)].strip(),
            domain=str(span.get("domain") or ""),
            signature=one_line(str(span.get("signature") or "")),
            params=tuple(str(name) for name in span.get("params") or ()),
            section=next((str(s["title"]) for s in reversed(sections) if s["start"] <= start < s["end"]), ""),
        )


def _sections(document: Document) -> Iterator[Passage]:
    found = _ordered(document, "sections")
    for index, section in enumerate(found):
        start, end = (_offset(document, section, key) for key in ("start", "end"))
        title = str(section.get("title") or "")
        yield Passage(
            document=document,
            over=Over.SECTIONS,
            name=title,
            type="section",
            start=start,
            end=end,
            body=document.text[start : _own_end(found, index, start + 1, end)].strip(),
            level=int(section.get("level") or 0),
            section=title,
        )


def _ordered(document: Document, kind: str) -> list[dict[str, Any]]:
    found = document.meta.get(kind) or []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise BadDocument(f"meta.{kind} is not a list of objects")
    for item in found:
        _offset(document, item, "start")
        _offset(document, item, "end")
    return sorted(found, key=lambda item: (item["start"], -item["end"]))


def _own_end(found: list[dict[str, Any]], index: int, after: int, end: int) -> int:
    return next((item["start"] for item in found[index + 1 :] if after <= item["start"] < end), end)


def _offset(document: Document, item: Mapping[str, Any], key: str) -> int:
    value = item.get(key)
    if not isinstance(value, int) or not 0 <= value <= len(document.text):
        raise BadDocument(f"{key} of {item.get('name') or item.get('title')!r} is not an offset into the text: {value}")
    return value
