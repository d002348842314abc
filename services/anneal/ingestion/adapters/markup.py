"""HTML elements to Markdown-like blocks, with the entries that Sphinx marks up located in the text.

The walk keeps headings, paragraphs, lists, definition lists, tables and code; navigation, scripts and the pilcrow
links after headings are left out. A `<dl class="py function">` becomes a signature line, its body, and a `Span`.
"""

from __future__ import annotations

from collections.abc import Iterator

from lxml.html import HtmlElement

from anneal.ingestion.adapters.inline_markup import (
    BLOCKS,
    BREAK,
    classes_of,
    collapse,
    inline,
    is_dropped,
    plain,
    whole_number,
)
from anneal.ingestion.adapters.table_markup import is_layout, markdown_table
from anneal.ingestion.domain.building import TextBuilder
from anneal.ingestion.domain.cleaning import clean
from anneal.ingestion.domain.documents import Section, Span, close_sections

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_OBJECT_DOMAINS = frozenset({"c", "cpp", "js", "py", "rst", "std"})
_LANGUAGES = {"default": "python", "python3": "python", "pycon": "python", "py": "python", "none": "", "text": ""}

# Deeper elements are flattened to their text: no honest page nests this far, and the walk is recursive.
_MAX_DEPTH = 100


class MarkupWalk:
    """One walk over one page's main element."""

    def __init__(self) -> None:
        self._out = TextBuilder()
        self._headings: list[tuple[int, str, int]] = []
        self._spans: list[tuple[int, Span]] = []
        self._depth = 0

    def run(self, root: HtmlElement) -> tuple[str, tuple[Section, ...], tuple[Span, ...]]:
        """Return the text below `root`, its sections and its spans."""
        self._children(root)
        text = self._out.text()
        spans = tuple(span for _, span in sorted(self._spans, key=lambda item: item[0]))
        return text, close_sections(self._headings, len(text)), spans

    def _children(self, element: HtmlElement) -> None:
        """Write the blocks in `element`; text between them becomes paragraphs."""
        if self._depth >= _MAX_DEPTH:
            self._paragraph(" ".join(element.itertext()))
            return
        self._depth += 1
        run = [element.text or ""]
        for child in element:
            if _is_block(child):
                self._paragraph("".join(run))
                self._block(child)
                run = []
            else:
                run.append(inline(child))
            run.append(child.tail or "")
        self._paragraph("".join(run))
        self._depth -= 1

    def _block(self, element: HtmlElement) -> None:
        if is_dropped(element):
            return
        tag = element.tag
        if tag in _HEADINGS:
            self._heading(element, _HEADINGS[tag])
        elif tag == "pre":
            self._code(element)
        elif tag in ("ul", "ol"):
            self._list(element)
        elif tag == "dl":
            self._definitions(element)
        elif tag == "table":
            self._table(element)
        elif tag == "blockquote":
            with self._out.indented("> ", "> "):
                self._children(element)
        elif "line-block" in classes_of(element):
            self._paragraph(BREAK.join(inline(line) for line in _lines(element)))
        else:
            self._children(element)

    def _paragraph(self, text: str) -> None:
        self._out.block(collapse(text))

    def _heading(self, element: HtmlElement, level: int) -> None:
        title = plain(element)
        if title:
            start = self._out.block("#" * level + " " + title)
            self._headings.append((level, clean(title), start))

    def _code(self, element: HtmlElement) -> None:
        code = "".join(element.itertext()).strip("\n")
        if code.strip():
            fence = "````" if "```" in code else "```"
            self._out.block(f"{fence}{_language(element)}\n{code}\n{fence}")

    def _list(self, element: HtmlElement) -> None:
        ordered = element.tag == "ol"
        number = whole_number(element.get("start"), 1)
        for index, item in enumerate(child for child in element if child.tag == "li" and not is_dropped(child)):
            mark = f"{number + index}. " if ordered else "- "
            if index:
                self._out.tighten()
            with self._out.indented(mark, " " * len(mark)):
                self._children(item)

    def _definitions(self, element: HtmlElement) -> None:
        classes = classes_of(element)
        if len(classes) >= 2 and classes[0] in _OBJECT_DOMAINS and any("sig" in classes_of(dt) for dt in element):
            self._entry(element, classes[0], classes[1])
            return
        for child in element:
            if child.tag == "dt":
                self._paragraph(inline(child))
            elif child.tag == "dd":
                self._out.tighten()
                with self._out.indented(":   ", "    "):
                    self._children(child)
            elif isinstance(child.tag, str):
                self._block(child)

    def _entry(self, element: HtmlElement, domain: str, kind: str) -> None:
        """Write one described object: its signature lines, a blank line, its body."""
        heads = [child for child in element if child.tag == "dt"]
        named = next((head for head in heads if head.get("id")), None)
        start = order = self._out.length
        for index, head in enumerate(heads):
            if index:
                self._out.tighten()
            line = self._out.block(plain(head))
            start = line if head is named or index == 0 else start
        before_body = self._out.length
        for child in element:
            if child.tag != "dt" and isinstance(child.tag, str):
                self._children(child)
        if named is None:
            return
        end = self._out.length
        self._spans.append(
            (
                order,
                Span(
                    type=kind,
                    name=str(named.get("id")),
                    start=start,
                    end=end,
                    body_start=min(before_body + 2, end),
                    signature=clean(plain(named)),
                    params=_parameters(named),
                    domain=domain,
                ),
            )
        )

    def _table(self, element: HtmlElement) -> None:
        caption = element.find("caption")
        if caption is not None:
            self._paragraph(inline(caption))
        if is_layout(element):
            for cell in element.iterchildren():
                if cell.tag != "caption" and isinstance(cell.tag, str):
                    self._block(cell)
        else:
            self._out.block(markdown_table(element))


def _is_block(element: HtmlElement) -> bool:
    return element.tag in BLOCKS


def _lines(element: HtmlElement) -> Iterator[HtmlElement]:
    return (line for line in element.iter("div") if "line" in classes_of(line))


def _language(element: HtmlElement) -> str:
    """Return the language of a code block, from `highlight-x` or `language-x` around or inside it."""
    around = list(element.iterancestors())[:2]
    for candidate in (element, *element, *around):
        for name in classes_of(candidate):
            prefix, _, language = name.partition("-")
            if prefix in ("highlight", "language", "lang") and language:
                return _LANGUAGES.get(language, language)
    return ""


def _parameters(head: HtmlElement) -> tuple[str, ...]:
    """Return the names of a signature's parameters; the bare `*` and `/` name none."""
    names = []
    for parameter in head.iter("em"):
        if "sig-param" not in classes_of(parameter):
            continue
        stars = name = ""
        for part in parameter.iter("span"):
            if "o" in classes_of(part) and not name and part.text_content() in ("*", "**"):
                stars = part.text_content()
            elif "n" in classes_of(part) and not name:
                name = part.text_content().strip()
        if name:
            names.append(stars + name)
    return tuple(names)
