"""Word files to documents: mammoth makes HTML of them, our own walk (`adapters.markup`) text of that.

Headings follow the styles, footnotes and endnotes become Markdown's, tracked insertions count and deletions do not.
Left out and counted: images, drawings, formulas, embedded objects, comments. A Word file has no pages: where one ends
is decided by who prints it.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from typing import Any

import lxml.html
import mammoth
from lxml import etree

from anneal.ingestion.adapters.footnotes import mark_footnotes
from anneal.ingestion.adapters.libraries import reading_with
from anneal.ingestion.adapters.markup import MarkupWalk
from anneal.ingestion.adapters.packages import DOCX, OLE_MARK, Package, opened
from anneal.ingestion.domain.cleaning import clean
from anneal.ingestion.domain.documents import ParsedDocument, Section
from anneal.ingestion.domain.errors import UnreadableDocument

MEDIA_TYPE = DOCX

_STYLES = "p[style-name='Title'] => h1:fresh\ncomment-reference => !"
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_CORE = "docProps/core.xml"
_PROPERTIES = {"creator": "author", "subject": "subject", "keywords": "keywords", "created": "created"}
_MAX_PROPERTY = 1000
_COUNTED = {
    "{http://schemas.openxmlformats.org/officeDocument/2006/math}oMath": "formulas_left_out",
    _WORD + "object": "embedded_objects_left_out",
    _WORD + "commentReference": "comments_left_out",
    "{http://schemas.openxmlformats.org/drawingml/2006/chart}chart": "charts_left_out",
    "{http://schemas.openxmlformats.org/drawingml/2006/diagram}relIds": "diagrams_left_out",
    "{http://schemas.openxmlformats.org/drawingml/2006/picture}pic": "images_left_out",
}
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")


def parse(data: bytes, uri: str) -> ParsedDocument:
    """Parse one file.

    Raises:
        UnreadableDocument: it is damaged, encrypted, hostile, or of Word 97 to 2003.
    """
    if data.startswith(OLE_MARK):
        if _ENCRYPTED in data:
            raise UnreadableDocument(
                "the file is encrypted and cannot be opened without its password; save it without one",
                reason="encrypted",
            )
        raise UnreadableDocument("the file is of Word 97 to 2003; save it as .docx", reason="legacy_format")
    with opened(data) as package:
        warnings = _checked(package)
        properties = _core(package)
        language = _language(package)
    with reading_with("mammoth", etree.LxmlError, KeyError, OSError):
        result = mammoth.convert_to_html(
            io.BytesIO(data), style_map=_STYLES, convert_image=mammoth.images.img_element(_no_image)
        )
        html: str = result.value
    return _document(html, uri, properties, language, warnings)


def _no_image(_image: Any) -> dict[str, str]:
    """Images are not read; they were counted."""
    return {"src": ""}


def _checked(package: Package) -> Counter[str]:
    """Check all XML that mammoth will read, and count what it will leave out.

    Raises:
        UnreadableDocument: some of it is hostile or damaged.
    """
    counts: Counter[str] = Counter()
    for name in sorted(package.names):
        if not name.endswith((".xml", ".rels")) or not name.startswith(("word/", "[Content", "_rels/")):
            continue
        root = package.xml(name)
        if name.startswith("word/") and name.count("/") == 1:
            for tag, label in _COUNTED.items():
                counts[label] += sum(1 for _ in root.iter(tag))
    return counts


def _core(package: Package) -> Mapping[str, str]:
    """What the file says of itself: title, author and others."""
    if _CORE not in package.names:
        return {}
    found: dict[str, str] = {}
    for element in package.xml(_CORE):
        if isinstance(element.tag, str) and (text := clean(element.text or "").strip()):
            found.setdefault(etree.QName(element).localname, text[:_MAX_PROPERTY])
    return found


def _language(package: Package) -> str | None:
    """The language of the default style."""
    if "word/styles.xml" not in package.names:
        return None
    path = f"{_WORD}docDefaults/{_WORD}rPrDefault/{_WORD}rPr/{_WORD}lang"
    element = package.xml("word/styles.xml").find(path)
    return None if element is None else element.get(_WORD + "val") or None


def _document(
    html: str, uri: str, core: Mapping[str, str], language: str | None, warnings: Counter[str]
) -> ParsedDocument:
    notes: dict[str, object] = {"extractor": "mammoth"}
    text = ""
    sections: tuple[Section, ...] = ()
    if html.strip():
        with reading_with("lxml", etree.LxmlError):
            root = lxml.html.fragment_fromstring(html, create_parent="div")
            if footnotes := mark_footnotes(root):
                notes["footnotes"] = footnotes
            text, sections, _ = MarkupWalk().run(root)
    title = core.get("title", "") or (min(sections, key=lambda each: each.level).title if sections else "")
    return ParsedDocument(
        text,
        title,
        uri,
        MEDIA_TYPE,
        core.get("language") or language,
        sections,
        notes=notes,
        properties={name: core[key] for key, name in _PROPERTIES.items() if key in core},
        warnings={name: count for name, count in sorted(warnings.items()) if count},
    )
