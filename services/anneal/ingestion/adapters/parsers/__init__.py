"""The table of document parsers, by media type, and how a file's media type is found."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import PurePosixPath

from anneal.ingestion.adapters.packages import OLE_MARK, OTHER, ZIP_MARK, package_type
from anneal.ingestion.adapters.parsers import docx, epub, html, markdown, pdf, plain_text
from anneal.ingestion.domain.documents import ParsedDocument

Parser = Callable[[bytes, str], ParsedDocument]

PARSERS: dict[str, Parser] = {
    docx.MEDIA_TYPE: docx.parse,
    epub.MEDIA_TYPE: epub.parse,
    html.MEDIA_TYPE: html.parse,
    markdown.MEDIA_TYPE: markdown.parse,
    pdf.MEDIA_TYPE: pdf.parse,
    plain_text.MEDIA_TYPE: plain_text.parse,
}

_SUFFIXES = {
    ".html": html.MEDIA_TYPE,
    ".htm": html.MEDIA_TYPE,
    ".xhtml": html.MEDIA_TYPE,
    ".md": markdown.MEDIA_TYPE,
    ".markdown": markdown.MEDIA_TYPE,
    ".txt": plain_text.MEDIA_TYPE,
    ".text": plain_text.MEDIA_TYPE,
    ".rst": plain_text.MEDIA_TYPE,
    ".log": plain_text.MEDIA_TYPE,
    ".pdf": pdf.MEDIA_TYPE,
    ".docx": docx.MEDIA_TYPE,
    ".doc": docx.MEDIA_TYPE,
    ".epub": epub.MEDIA_TYPE,
}
_PDF = b"%PDF-"
# A reader of PDF looks for the mark in the first 1024 bytes.
_PDF_WITHIN = 1024
_MARKUP = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*(?:<!--.{0,500}?-->\s*)?(?:<!doctype\s+html|<html[\s>])", re.I | re.S)
# What is named so and begins otherwise is damaged, which its parser says.
_BINARY = frozenset({pdf.MEDIA_TYPE, docx.MEDIA_TYPE, epub.MEDIA_TYPE})
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")


def media_type_of(data: bytes, uri: str) -> str | None:
    """Return the media type of a file by its content, then by its name; None where no parser reads it.

    Content wins for HTML, PDF and packages (docx, epub) under any name; among text formats only the name tells. A file
    with NUL bytes and no UTF-16 or UTF-32 mark is binary.
    """
    head = data[:4096]
    if head.startswith(ZIP_MARK):
        package = package_type(io.BytesIO(data), uri)
        return None if package == OTHER else package
    if _PDF in head[:_PDF_WITHIN] and (head.startswith(_PDF) or b"\0" in head or _named(uri) == pdf.MEDIA_TYPE):
        return pdf.MEDIA_TYPE
    if _MARKUP.match(head):
        return html.MEDIA_TYPE
    named = _named(uri)
    if head.startswith(OLE_MARK) or named in _BINARY:
        return named if named in _BINARY else None
    if b"\0" in head and not head.startswith((*_WIDE_MARKS, b"\0\0\xfe\xff")):
        return None
    return named


def _named(uri: str) -> str | None:
    suffix = PurePosixPath(uri).suffix.lower()
    return _SUFFIXES.get(suffix, None if suffix else plain_text.MEDIA_TYPE)
