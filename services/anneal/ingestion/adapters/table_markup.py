"""HTML tables as Markdown tables: spans written out, lists and paragraphs of a cell on one line."""

from __future__ import annotations

from collections.abc import Iterator

from lxml.html import HtmlElement

from anneal.ingestion.adapters.inline_markup import BREAK, inline, is_dropped, whole_number
from anneal.ingestion.domain.cleaning import clean

_MAX_SPAN = 100
_MAX_COLUMNS = 10_000
_APART = frozenset({"p", "div", "ul", "ol", "dl", "dt", "dd", "blockquote"})
_LAYOUT = frozenset({"table", "pre", "h1", "h2", "h3", "h4", "h5", "h6"})


def is_layout(table: HtmlElement) -> bool:
    """Whether a table only places other blocks: it holds headings, code or tables."""
    if table.get("role") == "presentation":
        return True
    return any(element.tag in _LAYOUT for element in table.iterdescendants())


def markdown_table(table: HtmlElement) -> str:
    """Return a table in Markdown, its first row as the header; empty where no cell has text.

    A cell over several rows is repeated in each, so that every row says all of it.
    """
    rows = [row for row in _grid(table) if any(row)]
    if not rows:
        return ""
    width = max(len(row) for row in rows)
    lines = ["| " + " | ".join(row + [""] * (width - len(row))) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * width)
    return "\n".join(lines)


def _grid(table: HtmlElement) -> Iterator[list[str]]:
    """The cells of each row, those that reach into it from above among them."""
    reaching: dict[int, tuple[int, str]] = {}
    for element in table.iter("tr"):
        row: dict[int, str] = {column: text for column, (_, text) in reaching.items()}
        following = {column: (left - 1, text) for column, (left, text) in reaching.items() if left > 1}
        column = 0
        for cell in element:
            if cell.tag not in ("td", "th"):
                continue
            text = cell_text(cell)
            rows_high = min(max(whole_number(cell.get("rowspan"), 1), 1), _MAX_SPAN)
            for index in range(min(max(whole_number(cell.get("colspan"), 1), 1), _MAX_SPAN)):
                while column in row:
                    column += 1
                row[column] = text if index == 0 else ""
                if rows_high > 1:
                    following[column] = (rows_high - 1, row[column])
        reaching = following
        yield [row.get(index, "") for index in range(min(max(row, default=-1) + 1, _MAX_COLUMNS))]


def cell_text(cell: HtmlElement) -> str:
    """Return a cell's text on one line; list items stand apart by semicolons."""
    text = " ".join("".join(_pieces(cell)).replace(BREAK, " ").split())
    return clean(text).replace("|", "\\|").replace(" ;", ";")


def _pieces(element: HtmlElement) -> Iterator[str]:
    if element.text:
        yield element.text
    items = 0
    for child in element:
        if child.tag == "li":
            yield "; " if items else " "
            items += 1
            yield from _pieces(child)
        elif child.tag in _APART and not is_dropped(child):
            yield " "
            yield from _pieces(child)
            yield " "
        else:
            yield inline(child)
        if child.tail:
            yield child.tail
