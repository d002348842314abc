"""EPUB books to documents: the files of the reading order, one after the other, each through our own walk.

A chapter whose text has no heading gets the one that the table of contents gives it. Left out and counted: images, and
files of the reading order that are missing or are no text. Books whose files are encrypted (DRM) are refused; fonts
may be obfuscated.
"""

from __future__ import annotations

import html.entities
import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

import lxml.html
from lxml import etree
from lxml.html import HtmlElement

from anneal.ingestion.adapters.footnotes import mark_footnotes
from anneal.ingestion.adapters.inline_markup import plain
from anneal.ingestion.adapters.libraries import reading_with
from anneal.ingestion.adapters.markup import MarkupWalk
from anneal.ingestion.adapters.packages import EPUB, Package, check_entities, opened
from anneal.ingestion.domain.cleaning import clean
from anneal.ingestion.domain.documents import ParsedDocument, Section
from anneal.ingestion.domain.errors import UnreadableDocument
from anneal.ingestion.domain.limits import DocumentLimits

MEDIA_TYPE = EPUB

_LIMITS = DocumentLimits()
_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_FONT_METHODS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_TEXT = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml"})
_PROPERTIES = {"creator": "author", "publisher": "publisher", "date": "date", "rights": "rights", "subject": "subject"}
_MAX_PROPERTY = 1000
_OPS = "{http://www.idpf.org/2007/ops}type"
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]*);")
_XML_ENTITIES = frozenset({"amp", "lt", "gt", "quot", "apos"})


@dataclass(slots=True)
class _Book:
    """What the package document says.

    Attributes:
        spine: members in reading order.
        titles: `member -> title` of the table of contents.
    """

    metadata: dict[str, list[str]]
    spine: list[str]
    titles: dict[str, str] = field(default_factory=dict)
    warnings: Counter[str] = field(default_factory=Counter)


def parse(data: bytes, uri: str) -> ParsedDocument:
    """Parse one book.

    Raises:
        UnreadableDocument: it is damaged, encrypted or hostile.
    """
    with opened(data) as package:
        _check_encryption(package)
        book = _book(package)
        pieces: list[str] = []
        sections: list[Section] = []
        length = footnotes = 0
        for number, member in enumerate(book.spine, start=1):
            root = _page(package, member)
            if root is None:
                book.warnings["chapters_without_text"] += 1
                continue
            footnotes += mark_footnotes(root, f"{number}-" if len(book.spine) > 1 else "")
            book.warnings["images_left_out"] += sum(1 for _ in root.iter("img", "image", "svg"))
            text, found, _ = MarkupWalk().run(root)
            if not text.strip():
                book.warnings["chapters_without_text"] += 1
                continue
            start = length + (2 if pieces else 0)
            pieces.append(text)
            length = start + len(text)
            if length > _LIMITS.max_characters:
                raise UnreadableDocument(
                    f"the text has more than {_LIMITS.max_characters} characters; split the book", reason="too_long"
                )
            sections += _sections(found, book.titles.get(member, ""), start, length)
    return _document("\n\n".join(pieces), uri, book, sections, footnotes)


def _sections(found: tuple[Section, ...], title: str, start: int, end: int) -> Iterator[Section]:
    if title and not found:
        yield Section(1, title, start, end)
    for section in found:
        yield Section(section.level, section.title, section.start + start, section.end + start)


def _check_encryption(package: Package) -> None:
    """Refuse a book whose text is encrypted.

    Raises:
        UnreadableDocument: it is.
    """
    if _ENCRYPTION not in package.names:
        return
    for element in package.xml(_ENCRYPTION).iter("{*}EncryptionMethod"):
        if (element.get("Algorithm") or "") not in _FONT_METHODS:
            raise UnreadableDocument(
                "the book is encrypted (DRM); ask its publisher for one that is not", reason="encrypted"
            )


def _book(package: Package) -> _Book:
    """Read the package document and the table of contents.

    Raises:
        UnreadableDocument: there is none, or it lists no text.
    """
    rootfile = package.xml(_CONTAINER).find(".//{*}rootfile")
    path = "" if rootfile is None else unquote(rootfile.get("full-path") or "")
    root = package.xml(path)
    base = posixpath.dirname(path)
    metadata: dict[str, list[str]] = {}
    for element in root.iterfind("{*}metadata/{*}*"):
        if isinstance(element.tag, str) and (text := clean(element.text or "").strip()):
            metadata.setdefault(etree.QName(element).localname, []).append(text[:_MAX_PROPERTY])
    items = {item.get("id"): item for item in root.iterfind("{*}manifest/{*}item")}
    book = _Book(metadata, [])
    for reference in root.iterfind("{*}spine/{*}itemref"):
        item = items.get(reference.get("idref"))
        if item is None or (item.get("media-type") or "").lower() not in _TEXT:
            book.warnings["chapters_left_out"] += 1
        elif "nav" not in (item.get("properties") or "").split():
            book.spine.append(_resolve(base, item.get("href") or ""))
    if len(book.spine) > _LIMITS.max_pages:
        raise UnreadableDocument(
            f"the reading order has {len(book.spine)} files, more than {_LIMITS.max_pages}", reason="too_many_pages"
        )
    for item in items.values():
        _read_titles(package, base, item, book)
    return book


def _read_titles(package: Package, base: str, item: etree._Element, book: _Book) -> None:
    """Read the titles of a table of contents, of EPUB 3 (nav) or 2 (ncx)."""
    member = _resolve(base, item.get("href") or "")
    is_nav = "nav" in (item.get("properties") or "").split()
    if member not in package.names or not (is_nav or item.get("media-type") == "application/x-dtbncx+xml"):
        return
    folder = posixpath.dirname(member)
    if is_nav:
        root = _tree(package.read(member), member)
        lists = [] if root is None else [each for each in root.iter("nav") if "toc" in (each.get(_OPS) or "toc")]
        links = [(link.get("href") or "", plain(link)) for each in lists for link in each.iter("a")]
    else:
        links = [
            (point.find("{*}content").get("src") or "", " ".join("".join(point.find("{*}navLabel").itertext()).split()))
            for point in package.xml(member).iter("{*}navPoint")
            if point.find("{*}content") is not None and point.find("{*}navLabel") is not None
        ]
    for target, title in links:
        if title:
            book.titles.setdefault(_resolve(folder, target.partition("#")[0]), clean(title))


def _resolve(base: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(base, unquote(path.partition("#")[0])))


def _page(package: Package, member: str) -> HtmlElement | None:
    if member not in package.names:
        return None
    root = _tree(package.read(member), member)
    if root is None:
        return None
    body = root.find(".//body")
    return root if body is None else body


def _tree(data: bytes, member: str) -> HtmlElement | None:
    """A file as a tree: as XML, which it should be, else as HTML, which reads anything."""
    if not data.strip():
        return None
    parser = lxml.html.XHTMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
    with reading_with("lxml", etree.LxmlError):
        try:
            root = etree.fromstring(_without_names(data), parser)
            check_entities(root, member)
            lxml.html.xhtml_to_html(root)
        except etree.XMLSyntaxError:
            loose = lxml.html.HTMLParser(no_network=True, remove_comments=True, remove_pis=True)
            try:
                root = lxml.html.document_fromstring(data, parser=loose)
            except etree.ParserError:  # "Document is empty"
                return None
    return root


def _without_names(data: bytes) -> bytes:
    """The named characters of HTML, which XML does not know, as numbers."""

    def number(match: re.Match[bytes]) -> bytes:
        name = match[1].decode()
        code = html.entities.name2codepoint.get(name)
        return match[0] if code is None or name in _XML_ENTITIES else f"&#{code};".encode()

    return re.sub(_ENTITY.pattern.encode(), number, data)


def _document(text: str, uri: str, book: _Book, sections: list[Section], footnotes: int) -> ParsedDocument:
    given = book.metadata
    notes: dict[str, object] = {"extractor": "epub", "chapters": len(book.spine)}
    if footnotes:
        notes["footnotes"] = footnotes
    return ParsedDocument(
        text,
        given.get("title", [""])[0],
        uri,
        MEDIA_TYPE,
        given.get("language", [""])[0] or None,
        tuple(sections),
        notes=notes,
        properties={name: "; ".join(given[key])[:_MAX_PROPERTY] for key, name in _PROPERTIES.items() if key in given},
        warnings={name: count for name, count in sorted(book.warnings.items()) if count},
    )
