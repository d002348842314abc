"""HTML to documents.

Documentation made by Sphinx keeps its definition lists through our own walk (`adapters.markup`), which trafilatura
would lose; every other page goes through trafilatura, which knows what a page's main content is. A page too short for
it, or all structure, is walked whole.
"""

from __future__ import annotations

import re

import lxml.html
import trafilatura
from lxml.html import HtmlElement

from anneal.ingestion.adapters.encodings import Decoded, decode
from anneal.ingestion.adapters.libraries import reading_with
from anneal.ingestion.adapters.markup import MarkupWalk, plain
from anneal.ingestion.adapters.parsers.markdown import sections_of
from anneal.ingestion.domain.cleaning import clean, clean_document
from anneal.ingestion.domain.documents import ParsedDocument

MEDIA_TYPE = "text/html"

# The HTML standard looks for a charset in the first 1024 bytes.
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)


def parse(data: bytes, uri: str) -> ParsedDocument:
    """Parse one page; a page without content gives an empty text.

    Raises:
        UndecodableText: no encoding fits.
        UnreadableDocument: a library gave up on it.
    """
    declared = _CHARSET.search(data[:1024])
    decoded = decode(data, declared[1].decode("ascii") if declared else None)
    page = _tree(decoded.text)
    if page is None:
        return _document("", "", uri, None, decoded, "none")
    title = _title(page)
    language = page.get("lang") or None
    main = _sphinx_main(page)
    if main is not None:
        heading = main.find(".//h1")
        text, sections, spans = MarkupWalk().run(main)
        name = (plain(heading) if heading is not None else "") or title
        return ParsedDocument(text, clean(name), uri, MEDIA_TYPE, language, sections, spans, _notes(decoded, "sphinx"))
    with reading_with("trafilatura", lxml.etree.LxmlError):
        extracted = trafilatura.extract(
            decoded.text, output_format="markdown", include_tables=True, include_comments=False
        )
    if extracted:
        return _document(clean_document(extracted), title, uri, language, decoded, "trafilatura")
    body = page.find("body")
    text, sections, spans = MarkupWalk().run(page if body is None else body)
    return ParsedDocument(text, title, uri, MEDIA_TYPE, language, sections, spans, _notes(decoded, "walk"))


def _document(
    text: str, title: str, uri: str, language: str | None, decoded: Decoded, extractor: str
) -> ParsedDocument:
    sections = sections_of(text)
    return ParsedDocument(text, title, uri, MEDIA_TYPE, language, sections, (), _notes(decoded, extractor))


def _notes(decoded: Decoded, extractor: str) -> dict[str, object]:
    return {"encoding": decoded.encoding, "encoding_evidence": decoded.evidence, "extractor": extractor}


def _tree(text: str) -> HtmlElement | None:
    """Return the page as a tree; None for a page without any element."""
    if not text.strip():
        return None
    parser = lxml.html.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True)
    with reading_with("lxml", lxml.etree.LxmlError):
        try:
            return lxml.html.document_fromstring(text.encode(), parser=parser, ensure_head_body=True)
        except lxml.etree.ParserError:  # "Document is empty": nothing but comments
            return None


def _title(page: HtmlElement) -> str:
    title = page.find(".//title")
    return clean(" ".join(title.text_content().split())) if title is not None else ""


def _sphinx_main(page: HtmlElement) -> HtmlElement | None:
    """Return the main element of a page made by Sphinx or docutils; None for any other page."""
    made = any("docutils" in (meta.get("content") or "").lower() for meta in page.iter("meta"))
    made = made or page.find('.//script[@id="documentation_options"]') is not None
    if not made:
        return None
    for path in ('.//*[@role="main"]', ".//main", './/div[@class="body"]', './/div[@class="document"]'):
        found = page.find(path)
        if found is not None:
            return found
    return page.find("body")
