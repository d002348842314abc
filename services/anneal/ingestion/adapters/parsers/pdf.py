"""PDF to documents: paragraphs, headings and tables again, each page's place in the text kept.

PDFium (`adapters.pdf_text`) gives characters and their places; `domain.page_layout` and `domain.reflow` make lines,
columns, tables and paragraphs of them. Left out and counted: images, attachments, values of form fields, lines that
stand on every page. Refused by name: files with a password, and scans, whose pages are images without a text layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from anneal.ingestion.adapters.libraries import reading_with
from anneal.ingestion.adapters.pdf_text import PageText, text_of
from anneal.ingestion.domain.cleaning import clean
from anneal.ingestion.domain.documents import Page, ParsedDocument, Section, close_sections
from anneal.ingestion.domain.errors import UnreadableDocument
from anneal.ingestion.domain.limits import DocumentLimits
from anneal.ingestion.domain.page_layout import blocks_of
from anneal.ingestion.domain.reflow import Paragraph, Reflowed, reflow, title_key

MEDIA_TYPE = "application/pdf"

_LIMITS = DocumentLimits()
_PROPERTIES = {"Author": "author", "Subject": "subject", "Keywords": "keywords", "CreationDate": "created"}
_MAX_PROPERTY = 1000
_MAX_BOOKMARKS = 10_000
_MAX_OBJECTS = 10_000
_MAX_NAMED = 20
_MAX_UNMAPPED = 0.3


def parse(data: bytes, uri: str) -> ParsedDocument:
    """Parse one file.

    Raises:
        UnreadableDocument: it is damaged, encrypted, too large, has no text layer, or its text is no Unicode.
    """
    with reading_with("pdfium", pdfium.PdfiumError), _opened(data) as document:
        warnings: Counter[str] = Counter()
        pages = _pages(document, warnings)
        _check_text(pages, warnings)
        blocks = [blocks_of(page.segments, is_right_to_left=page.is_right_to_left) for page in pages]
        flowed = reflow(blocks, _outline(document))
        notes: dict[str, object] = {"extractor": "pdfium", "pages": len(pages)}
        _record_pages(pages, flowed, notes, warnings)
        _count_the_rest(document, warnings)
        return _document(document, uri, flowed, notes, warnings)


@contextmanager
def _opened(data: bytes) -> Iterator[pdfium.PdfDocument]:
    try:
        document = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if error.err_code in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY):
            raise UnreadableDocument(
                "the file is encrypted and cannot be opened without its password; save it without one",
                reason="encrypted",
            ) from error
        raise
    try:
        if len(document) > _LIMITS.max_pages:
            raise UnreadableDocument(
                f"the file has {len(document)} pages, more than {_LIMITS.max_pages}; split it", reason="too_many_pages"
            )
        yield document
    finally:
        document.close()


def _pages(document: pdfium.PdfDocument, warnings: Counter[str]) -> list[PageText]:
    """The text of every page; one that cannot be read is empty and counted."""
    pages: list[PageText] = []
    characters = 0
    for index in range(len(document)):
        try:
            page = document[index]
        except pdfium.PdfiumError:
            warnings["unreadable_pages"] += 1
            pages.append(PageText())
            continue
        try:
            found = text_of(page, index + 1)
            warnings["images_left_out"] += _images(page)
        except pdfium.PdfiumError:
            warnings["unreadable_pages"] += 1
            found = PageText()
        finally:
            page.close()
        pages.append(found)
        characters += found.characters
        if characters > _LIMITS.max_characters:
            raise UnreadableDocument(
                f"the text has more than {_LIMITS.max_characters} characters; split the file", reason="too_long"
            )
    return pages


def _images(page: pdfium.PdfPage) -> int:
    return sum(1 for each in islice(page.get_objects(max_depth=2), _MAX_OBJECTS) if each.type == raw.FPDF_PAGEOBJ_IMAGE)


def _check_text(pages: list[PageText], warnings: Counter[str]) -> None:
    """Refuse a file without text, or whose text is glyph numbers.

    Raises:
        UnreadableDocument: with the reason.
    """
    total, unmapped = sum(page.characters for page in pages), sum(page.unmapped for page in pages)
    if pages and warnings["unreadable_pages"] == len(pages):
        raise UnreadableDocument(f"none of the {len(pages)} pages can be read: the file is damaged")
    if not total and warnings["images_left_out"]:
        raise UnreadableDocument(
            f"the {len(pages)} pages hold {warnings['images_left_out']} images and no text layer: a scan; run text "
            "recognition (OCR) over it first",
            reason="no_text_layer",
        )
    if unmapped > _MAX_UNMAPPED * max(total, 1):
        raise UnreadableDocument(
            f"{unmapped} of {total} characters have no meaning in Unicode: the fonts lack the map, and copying text "
            "from the file gives the same; make it again with the map, or run text recognition (OCR) over it",
            reason="unmapped_text",
        )
    if unmapped:
        warnings["unmapped_characters"] = unmapped


def _record_pages(pages: list[PageText], flowed: Reflowed, notes: dict[str, object], warnings: Counter[str]) -> None:
    empty = [number for number, page in enumerate(pages, start=1) if not page.characters]
    if empty:
        warnings["pages_without_text"] = len(empty)
        notes["pages_without_text"] = empty[:_MAX_NAMED]
    if flowed.repeated:
        warnings["repeated_lines_left_out"] = sum(flowed.repeated.values())
        notes["repeated_lines"] = sorted(flowed.repeated)[:_MAX_NAMED]
    if flowed.hyphens:
        notes["hyphens_removed"] = flowed.hyphens


def _count_the_rest(document: pdfium.PdfDocument, warnings: Counter[str]) -> None:
    """Count what a page's text does not hold."""
    warnings["attachments_left_out"] += max(0, document.count_attachments())
    if document.get_formtype() != raw.FORMTYPE_NONE:
        warnings["forms_left_out"] += 1


def _outline(document: pdfium.PdfDocument) -> dict[tuple[int, str], int]:
    found: dict[tuple[int, str], int] = {}
    for mark in islice(document.get_toc(), _MAX_BOOKMARKS):
        target = mark.get_dest()
        index = target.get_index() if target is not None else None
        if index is not None and (key := title_key(mark.get_title())):
            found.setdefault((index + 1, key), mark.level + 1)
    return found


def _document(
    document: pdfium.PdfDocument, uri: str, flowed: Reflowed, notes: dict[str, object], warnings: Counter[str]
) -> ParsedDocument:
    text, headings, pages = _written(flowed.paragraphs)
    sections = close_sections(headings, len(text))
    given = document.get_metadata_dict(skip_empty=True)
    properties = {name: clean(given[key])[:_MAX_PROPERTY] for key, name in _PROPERTIES.items() if given.get(key)}
    return ParsedDocument(
        text,
        _title(given.get("Title", ""), sections),
        uri,
        MEDIA_TYPE,
        _language(document),
        sections,
        notes=notes,
        pages=pages,
        properties=properties,
        warnings={name: count for name, count in sorted(warnings.items()) if count},
    )


def _written(paragraphs: list[Paragraph]) -> tuple[str, list[tuple[int, str, int]], tuple[Page, ...]]:
    """The text, its headings, and where each page begins."""
    pieces: list[str] = []
    headings: list[tuple[int, str, int]] = []
    starts: dict[int, int] = {}
    length, was_item = 0, False
    for paragraph in paragraphs:
        text = clean(paragraph.text).strip()
        if not text:
            continue
        is_item = text.startswith("- ")
        if pieces:
            pieces.append("\n" if is_item and was_item else "\n\n")
            length += len(pieces[-1])
        if paragraph.level:
            headings.append((paragraph.level, text.lstrip("# "), length))
        for offset, number in paragraph.pages:
            starts.setdefault(number, length + min(offset, len(text)))
        pieces.append(text)
        length += len(text)
        was_item = is_item
    begun = sorted(starts.items())
    ends = [start for _, start in begun[1:]] + [length] if begun else []
    return "".join(pieces), headings, tuple(Page(n, start, end) for (n, start), end in zip(begun, ends, strict=True))


def _title(given: str, sections: tuple[Section, ...]) -> str:
    title = " ".join(clean(given).split()).removeprefix("Microsoft Word - ")
    return title or (min(sections, key=lambda section: section.level).title if sections else "")


def _language(document: pdfium.PdfDocument) -> str | None:
    size = raw.FPDFCatalog_GetLanguage(document, None, 0)
    if not 2 < size <= 200:
        return None
    buffer = (raw.FPDF_WCHAR * (size // 2))()
    raw.FPDFCatalog_GetLanguage(document, buffer, size)
    return clean(bytes(buffer).decode("utf-16-le", errors="replace")).strip("\0 ") or None
