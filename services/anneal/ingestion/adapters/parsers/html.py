"""HTML to documents.

Our own walk (`adapters.markup`) keeps headings, lists, cells and code. It walks the main element of a page made by
Sphinx and of one that has a main element or one article; of any other page trafilatura, which knows what a page's
content is and loses some of it, says where it begins and ends. A page too short for it, or all structure, is walked
whole.
"""

from __future__ import annotations

import re
from dataclasses import replace

import lxml.html
import trafilatura
from lxml.html import HtmlElement

from anneal.ingestion.adapters.encodings import Decoded, decode
from anneal.ingestion.adapters.inline_markup import plain
from anneal.ingestion.adapters.libraries import reading_with
from anneal.ingestion.adapters.markup import MarkupWalk
from anneal.ingestion.adapters.parsers.markdown import sections_of
from anneal.ingestion.domain.cleaning import clean, clean_document
from anneal.ingestion.domain.documents import ParsedDocument
from anneal.ingestion.domain.main_content import content_of, plain_line

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
    sphinx = _sphinx_main(page)
    if sphinx is not None:
        heading = sphinx.find(".//h1")
        name = (plain(heading) if heading is not None else "") or title
        return _walked(sphinx, clean(name), uri, language, _notes(decoded, "sphinx"))
    main = _main(page)
    if main is not None:
        return _walked(main, title, uri, language, _notes(decoded, "main"))
    with reading_with("trafilatura", lxml.etree.LxmlError):
        extracted = trafilatura.extract(
            decoded.text, output_format="markdown", include_tables=True, include_comments=False
        )
    body = page.find("body")
    whole = _walked(page if body is None else body, title, uri, language, _notes(decoded, "walk"))
    if not extracted:
        return whole
    links = {plain_line(link.text_content()) for link in page.iter("a")}
    place = content_of(whole.text, extracted, links)
    if place is None:
        return _document(clean_document(extracted), title, uri, language, decoded, "trafilatura")
    return _within(whole, *place)


def _walked(root: HtmlElement, title: str, uri: str, language: str | None, notes: dict[str, object]) -> ParsedDocument:
    with reading_with("lxml", lxml.etree.LxmlError):
        text, sections, spans = MarkupWalk().run(root)
    return ParsedDocument(text, title, uri, MEDIA_TYPE, language, sections, spans, notes)


def _within(whole: ParsedDocument, start: int, end: int) -> ParsedDocument:
    """The part of a document from `start` to `end`, which begin and end with lines."""
    sections = tuple(
        replace(each, start=each.start - start, end=min(each.end, end) - start)
        for each in whole.sections
        if start <= each.start < end
    )
    notes = {**whole.notes, "extractor": "trafilatura+walk"}
    return replace(whole, text=whole.text[start:end], sections=sections, spans=(), notes=notes)


def _main(page: HtmlElement) -> HtmlElement | None:
    """The element that a page says is its content; None where it says none, or one without text."""
    found = page.xpath(".//main | .//*[@role='main']") or page.xpath(".//article[not(ancestor::article)]")
    return found[0] if len(found) == 1 and found[0].text_content().strip() else None


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
