"""HTML elements to Markdown-like blocks, with the entries that Sphinx marks up located in the text.

The walk keeps headings, paragraphs, lists, definition lists, tables and code; navigation, scripts and the pilcrow
links after headings are left out. A `<dl class="py function">` becomes a signature line, its body, and a `Span`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lxml.html import HtmlElement

from anneal.ingestion.domain.building import TextBuilder
from anneal.ingestion.domain.cleaning import clean
from anneal.ingestion.domain.documents import Section, Span, close_sections

# fmt: off
_DROPPED = frozenset({
    "script", "style", "nav", "header", "footer", "template", "noscript", "form", "button", "input", "select",
    "textarea", "iframe", "svg", "object",
})
_DROPPED_CLASSES = frozenset({"headerlink", "viewcode-link", "toctree-wrapper", "related", "sphinxsidebar", "linenos"})
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dialog", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "main", "ol", "p", "pre",
    "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
})
# fmt: on
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_OBJECT_DOMAINS = frozenset({"c", "cpp", "js", "py", "rst", "std"})
_LANGUAGES = {"default": "python", "python3": "python", "pycon": "python", "py": "python", "none": "", "text": ""}
_SPACES = re.compile(r"[ \t\r\n\f]+")
_BREAK = "\x00"  # stands for <br> until white space is collapsed; HTML text cannot hold it

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
        if _is_dropped(element):
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
        elif "line-block" in _classes(element):
            self._paragraph(_BREAK.join(inline(line) for line in _lines(element)))
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
        number = _int(element.get("start"), 1)
        for index, item in enumerate(child for child in element if child.tag == "li" and not _is_dropped(child)):
            mark = f"{number + index}. " if ordered else "- "
            if index:
                self._out.tighten()
            with self._out.indented(mark, " " * len(mark)):
                self._children(item)

    def _definitions(self, element: HtmlElement) -> None:
        classes = _classes(element)
        if len(classes) >= 2 and classes[0] in _OBJECT_DOMAINS and any("sig" in _classes(dt) for dt in element):
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
        rows = [[_cell(cell) for cell in row if cell.tag in ("td", "th")] for row in element.iter("tr")]
        rows = [row for row in rows if any(row)]
        if not rows:
            return
        width = max(len(row) for row in rows)
        lines = ["| " + " | ".join(row + [""] * (width - len(row))) + " |" for row in rows]
        lines.insert(1, "|" + " --- |" * width)
        self._out.block("\n".join(lines))


def inline(element: HtmlElement, *, ticks: bool = True) -> str:
    """Return an element's text as it runs in a line, inline code in back ticks; white space is not yet collapsed."""
    if _is_dropped(element):
        return ""
    if element.tag == "br":
        return _BREAK
    if ticks and element.tag in ("code", "tt", "kbd", "samp"):
        code = collapse("".join(_pieces(element, ticks=False)))
        return f"`{code}`" if code and "`" not in code else code
    return "".join(_pieces(element, ticks=ticks))


def plain(element: HtmlElement) -> str:
    """Return an element's text on one line, without back ticks and pilcrow links."""
    return collapse("".join(_pieces(element, ticks=False))).replace("\n", " ")


def collapse(text: str) -> str:
    """Collapse white space as a browser does; a `<br>` becomes a line feed."""
    lines = _SPACES.sub(" ", text).split(_BREAK)
    return "\n".join(line.strip(" ") for line in lines).strip("\n")


def _pieces(element: HtmlElement, *, ticks: bool) -> Iterator[str]:
    """Yield the text of what is inside `element`, without recursion where nothing needs it."""
    if element.text:
        yield element.text
    for child in element:
        if len(child) == 0 and child.tag == "span":
            yield child.text or ""
        else:
            yield inline(child, ticks=ticks)
        if child.tail:
            yield child.tail


def _is_dropped(element: HtmlElement) -> bool:
    if not isinstance(element.tag, str):  # comments, processing instructions
        return True
    if element.tag in _DROPPED:
        return True
    classes = _classes(element)
    if element.tag == "aside":
        return not any(name.startswith("footnote") or name in ("admonition", "system-message") for name in classes)
    return not _DROPPED_CLASSES.isdisjoint(classes)


def _is_block(element: HtmlElement) -> bool:
    return element.tag in _BLOCKS


def _classes(element: HtmlElement) -> list[str]:
    return (element.get("class") or "").split() if isinstance(element.tag, str) else []


def _lines(element: HtmlElement) -> Iterator[HtmlElement]:
    return (line for line in element.iter("div") if "line" in _classes(line))


def _language(element: HtmlElement) -> str:
    """Return the language of a code block, from `highlight-x` or `language-x` around or inside it."""
    around = list(element.iterancestors())[:2]
    for candidate in (element, *element, *around):
        for name in _classes(candidate):
            prefix, _, language = name.partition("-")
            if prefix in ("highlight", "language", "lang") and language:
                return _LANGUAGES.get(language, language)
    return ""


def _parameters(head: HtmlElement) -> tuple[str, ...]:
    """Return the names of a signature's parameters; the bare `*` and `/` name none."""
    names = []
    for parameter in head.iter("em"):
        if "sig-param" not in _classes(parameter):
            continue
        stars = name = ""
        for part in parameter.iter("span"):
            if "o" in _classes(part) and not name and part.text_content() in ("*", "**"):
                stars = part.text_content()
            elif "n" in _classes(part) and not name:
                name = part.text_content().strip()
        if name:
            names.append(stars + name)
    return tuple(names)


def _cell(element: HtmlElement) -> str:
    return clean(" ".join(inline(element).replace(_BREAK, " ").split())).replace("|", "\\|")


def _int(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.lstrip("-").isdigit() else default
