"""Plain text to documents: cleaned, otherwise untouched."""

from __future__ import annotations

from anneal.ingestion.adapters.encodings import decode
from anneal.ingestion.domain.cleaning import clean_document
from anneal.ingestion.domain.documents import ParsedDocument

MEDIA_TYPE = "text/plain"

_MAX_TITLE = 120


def parse(data: bytes, uri: str) -> ParsedDocument:
    """Parse one file; its first line is its title where that is short enough to be one."""
    decoded = decode(data)
    text = clean_document(decoded.text)
    first = next((line.strip() for line in text.split("\n") if line.strip()), "")
    title = first if len(first) <= _MAX_TITLE else ""
    notes = {"encoding": decoded.encoding, "encoding_evidence": decoded.evidence, "extractor": "plain"}
    return ParsedDocument(text, title, uri, MEDIA_TYPE, None, (), (), notes)
