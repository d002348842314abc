"""The table of document parsers, by media type, and how a file's media type is found."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from anneal.ingestion.adapters.parsers import html, markdown, plain_text
from anneal.ingestion.domain.documents import ParsedDocument

Parser = Callable[[bytes, str], ParsedDocument]

PARSERS: dict[str, Parser] = {
    html.MEDIA_TYPE: html.parse,
    markdown.MEDIA_TYPE: markdown.parse,
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
}
_MARKUP = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*(?:<!--.{0,500}?-->\s*)?(?:<!doctype\s+html|<html[\s>])", re.I | re.S)
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")


def media_type_of(data: bytes, uri: str) -> str | None:
    """Return the media type of a file by its content, then by its name; None where no parser reads it.

    Content wins for HTML under any name; among text formats only the name tells. A file with NUL bytes and no
    UTF-16 or UTF-32 mark is binary.
    """
    head = data[:4096]
    if _MARKUP.match(head):
        return html.MEDIA_TYPE
    if b"\0" in head and not head.startswith((*_WIDE_MARKS, b"\0\0\xfe\xff")):
        return None
    suffix = PurePosixPath(uri).suffix.lower()
    return _SUFFIXES.get(suffix, None if suffix else plain_text.MEDIA_TYPE)
