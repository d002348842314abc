"""HTML elements as text that runs in a line, and what of a page is no text of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lxml.html import HtmlElement

# fmt: off
_DROPPED = frozenset({
    "script", "style", "nav", "footer", "template", "noscript", "form", "button", "input", "select",
    "textarea", "iframe", "svg", "object",
})
_DROPPED_CLASSES = frozenset({"headerlink", "viewcode-link", "toctree-wrapper", "related", "sphinxsidebar", "linenos"})
BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dialog", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main",
    "nav", "ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
})
# fmt: on
_SPACES = re.compile(r"[ \t\r\n\f]+")
BREAK = "\x00"  # stands for <br> until white space is collapsed; HTML text cannot hold it


def inline(element: HtmlElement, *, ticks: bool = True) -> str:
    """Return an element's text as it runs in a line, inline code in back ticks; white space is not yet collapsed."""
    if is_dropped(element):
        return ""
    if element.tag == "br":
        return BREAK
    if ticks and element.tag in ("code", "tt", "kbd", "samp"):
        code = collapse("".join(_pieces(element, ticks=False)))
        return f"`{code}`" if code and "`" not in code else code
    return "".join(_pieces(element, ticks=ticks))


def plain(element: HtmlElement) -> str:
    """Return an element's text on one line, without back ticks and pilcrow links."""
    return collapse("".join(_pieces(element, ticks=False))).replace("\n", " ")


def collapse(text: str) -> str:
    """Collapse white space as a browser does; a `<br>` becomes a line feed."""
    lines = _SPACES.sub(" ", text).split(BREAK)
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


def is_dropped(element: HtmlElement) -> bool:
    """Whether an element is no text of the page: navigation, scripts, comments."""
    if not isinstance(element.tag, str):  # comments, processing instructions
        return True
    if element.tag == "header":  # of the page; that of its article has the title
        return not any(
            outer.tag in ("main", "article") or outer.get("role") == "main" for outer in element.iterancestors()
        )
    if element.tag in _DROPPED:
        return True
    classes = classes_of(element)
    if element.tag == "aside":
        return not any(name.startswith("footnote") or name in ("admonition", "system-message") for name in classes)
    return not _DROPPED_CLASSES.isdisjoint(classes)


def classes_of(element: HtmlElement) -> list[str]:
    """Return the classes of an element."""
    return (element.get("class") or "").split() if isinstance(element.tag, str) else []


def whole_number(text: str | None, default: int) -> int:
    """Return the number that an attribute holds."""
    return int(text) if text and text.isascii() and text.lstrip("-").isdigit() and len(text) < 10 else default
