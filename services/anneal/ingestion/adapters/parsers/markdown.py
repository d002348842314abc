"""Markdown to documents: the text stays as it is written, headings become sections."""

from __future__ import annotations

from itertools import pairwise

from markdown_it import MarkdownIt

from anneal.ingestion.adapters.encodings import decode
from anneal.ingestion.adapters.libraries import reading_with
from anneal.ingestion.domain.cleaning import clean_document
from anneal.ingestion.domain.documents import ParsedDocument, Section, close_sections

MEDIA_TYPE = "text/markdown"

_MAX_TITLE = 300


def parse(data: bytes, uri: str) -> ParsedDocument:
    """Parse one file; its first top-level heading is its title."""
    decoded = decode(data)
    text = clean_document(decoded.text)
    sections = sections_of(text)
    title = min(sections, key=lambda section: section.level).title if sections else ""
    notes = {"encoding": decoded.encoding, "encoding_evidence": decoded.evidence, "extractor": "markdown-it"}
    return ParsedDocument(text, title, uri, MEDIA_TYPE, None, sections, (), notes)


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
