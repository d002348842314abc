"""Markdown to documents: the text stays as it is written, headings become sections, YAML front matter properties."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from math import isfinite

import yaml
from markdown_it import MarkdownIt

from anneal.ingestion.adapters.encodings import decode
from anneal.ingestion.adapters.libraries import reading_with
from anneal.ingestion.domain.cleaning import clean_document
from anneal.ingestion.domain.documents import ParsedDocument, Section, close_sections

MEDIA_TYPE = "text/markdown"

_MAX_TITLE = 300
# Between lines of three dashes at the very beginning; the second may be three dots, as YAML ends a document.
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_MAX_FRONT_MATTER = 1 << 16
# An alias repeats what an anchor names, without end where anchors nest.
_ALIAS = re.compile(r"(?:^|[\s\[,{])\*\w", re.MULTILINE)


def parse(data: bytes, uri: str) -> ParsedDocument:
    """Parse one file; its first top-level heading is its title."""
    decoded = decode(data)
    text, metadata = _without_front_matter(clean_document(decoded.text))
    sections = sections_of(text)
    title = str(metadata.get("title") or "").strip()[:_MAX_TITLE]
    if not title and sections:
        title = min(sections, key=lambda section: section.level).title
    language = metadata.get("lang") or metadata.get("language")
    notes = {"encoding": decoded.encoding, "encoding_evidence": decoded.evidence, "extractor": "markdown-it"}
    return ParsedDocument(
        text,
        title,
        uri,
        MEDIA_TYPE,
        language if isinstance(language, str) else None,
        sections,
        notes=notes,
        properties=metadata,
    )


def _without_front_matter(text: str) -> tuple[str, dict[str, object]]:
    """The text without its front matter, and what that says; what is no mapping in YAML is text."""
    found = _FRONT_MATTER.match(text)
    if found is None or len(found[1]) > _MAX_FRONT_MATTER or _ALIAS.search(found[1]):
        return text, {}
    try:
        value = yaml.safe_load(found[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        return text, {}
    if not isinstance(value, dict) or not value:
        return text, {}
    # Dates and the like become text; JSON has no NaN.
    return text[found.end() :].lstrip("\n"), json.loads(json.dumps(_plain(value)))


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in value]
    is_number = isinstance(value, float) and isfinite(value)
    return value if value is None or is_number or isinstance(value, bool | int | str) else str(value)


def sections_of(text: str) -> tuple[Section, ...]:
    """Return the sections of a CommonMark text whose lines end with a line feed.

    Raises:
        UnreadableDocument: the library gave up on it.
    """
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    headings = []
    with reading_with("markdown-it"):
        tokens = MarkdownIt("commonmark").parse(text)
    for token, content in pairwise(tokens):
        if token.type == "heading_open" and token.map is not None:
            title = "".join(child.content if child.content else " " for child in content.children or [])
            headings.append((int(token.tag[1:]), " ".join(title.split())[:_MAX_TITLE], starts[token.map[0]]))
    return close_sections(headings, len(text))
