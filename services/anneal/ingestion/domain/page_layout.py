"""Text at places on a page to blocks in reading order: columns, tables, and the lines between them.

A page knows no lines, columns or tables, only text at places. Two columns are what prose on both sides of a gutter
looks like; rows of short texts that stand below each other are a table. Both are guesses from geometry: a table whose
cells are all long is read column by column.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

_MIN_COLUMN_LINES = 4
_MIN_PROSE_CHARACTERS = 25
_MIN_TABLE_ROWS = 3
_MIN_COMMON = 3
_MAX_GUTTERS_TRIED = 40
_MAX_COLUMNS_DEEP = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Text on one line without a wide gap, in points; `y` grows upwards.

    Attributes:
        size: font size.
        is_bold: whether it begins and ends in a bold font.
        is_hyphenated: its last word goes on in the next line, and the hyphen is not in the text.
        page: number of its page, from 1.
    """

    text: str
    x0: float
    x1: float
    y0: float
    y1: float
    size: float
    page: int
    is_bold: bool = False
    is_hyphenated: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a table, each with a cell per column."""

    rows: tuple[tuple[str, ...], ...]
    page: int

    def markdown(self) -> str:
        """Return it as a Markdown table whose header is its first row."""
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in self.rows]
        lines.insert(1, "|" + " --- |" * len(self.rows[0]))
        return "\n".join(lines)


Row = list[Segment]


def blocks_of(segments: Sequence[Segment], *, is_right_to_left: bool = False) -> list[Segment | Table]:
    """Return a page's lines and tables in reading order."""
    blocks: list[Segment | Table] = []
    for flow in _flows(list(segments), is_right_to_left, 0):
        blocks += _tables(_rows(flow, is_right_to_left))
    return blocks


def _flows(segments: Row, is_right_to_left: bool, depth: int) -> list[Row]:
    """What is read from top to bottom: the columns of a page, and what stands across them."""
    gutter = _gutter(segments) if depth < _MAX_COLUMNS_DEEP else None
    if gutter is None:
        return [segments]
    flows: list[Row] = []
    between: Row = []

    def flush() -> None:
        left = [one for one in between if one.x1 <= gutter]
        right = [one for one in between if one.x0 >= gutter]
        for side in (right, left) if is_right_to_left else (left, right):
            flows.extend(_flows(side, is_right_to_left, depth + 1) if side else [])
        between.clear()

    for one in sorted(segments, key=lambda segment: -segment.y1):
        if one.x0 < gutter < one.x1:
            flush()
            flows.append([one])
        else:
            between.append(one)
    flush()
    return _joined(flows)


def _joined(flows: list[Row]) -> list[Row]:
    """Lines across the columns that follow each other are one flow."""
    joined: list[Row] = []
    is_open = False
    for flow in flows:
        if len(flow) == 1 and is_open:
            joined[-1] += flow
        else:
            joined.append(list(flow))
        is_open = len(flow) == 1
    return joined


def _gutter(segments: Row) -> float | None:
    """The place between two columns of prose; None where there are none."""
    starts = Counter(round(one.x0) for one in segments)
    best: tuple[int, float] | None = None
    for start, _ in starts.most_common(_MAX_GUTTERS_TRIED):
        place = start - 1.5
        left = [one for one in segments if one.x1 <= place]
        right = [one for one in segments if one.x0 >= place]
        crossing = len(segments) - len(left) - len(right)
        if crossing > 0.3 * len(segments) or not (_is_prose(left) and _is_prose(right)):
            continue
        low, high = max(_bottom(left), _bottom(right)), min(_top(left), _top(right))
        shorter = min(_top(left) - _bottom(left), _top(right) - _bottom(right))
        score = min(len(left), len(right)) - crossing
        if high - low >= 0.5 * shorter and (best is None or score > best[0]):
            best = (score, place)
    return best[1] if best else None


def _is_prose(side: Row) -> bool:
    if len(side) < _MIN_COLUMN_LINES:
        return False
    return fmean(len(one.text) for one in side) >= _MIN_PROSE_CHARACTERS


def _bottom(side: Row) -> float:
    return min(one.y0 for one in side)


def _top(side: Row) -> float:
    return max(one.y1 for one in side)


def _rows(flow: Row, is_right_to_left: bool) -> list[Row]:
    """Segments beside each other together, from top to bottom."""
    rows: list[Row] = []
    for one in sorted(flow, key=lambda segment: -segment.y1):
        if rows and _overlap(rows[-1][0], one) > 0.5 * min(rows[-1][0].y1 - rows[-1][0].y0, one.y1 - one.y0):
            rows[-1].append(one)
        else:
            rows.append([one])
    for row in rows:
        row.sort(key=lambda segment: -segment.x1 if is_right_to_left else segment.x0)
    return rows


def _overlap(one: Segment, other: Segment) -> float:
    return min(one.y1, other.y1) - max(one.y0, other.y0)


def _tables(rows: list[Row]) -> list[Segment | Table]:
    blocks: list[Segment | Table] = []
    index = 0
    while index < len(rows):
        end = _table_end(rows, index)
        columns = _columns(rows[index:end])
        if end - index >= _MIN_TABLE_ROWS and columns:
            blocks.append(_table(rows[index:end], columns))
            index = end
        else:
            blocks += _one_line(rows[index])
            index += 1
    return blocks


def _table_end(rows: list[Row], start: int) -> int:
    """Where the rows from `start` on that have several cells, at an even distance, end."""
    end = start
    while end < len(rows) and len(rows[end]) >= 2:
        if end > start and rows[end - 1][0].y0 - rows[end][0].y1 > 2.5 * rows[end][0].size:
            break
        if end > start and not _columns(rows[start : end + 1]):
            break
        end += 1
    return end


def _columns(rows: list[Row]) -> list[tuple[float, float]]:
    """The columns in which each segment of the rows stands alone; empty where they make no table."""
    spans: list[tuple[float, float]] = []
    for one in sorted((segment for row in rows for segment in row), key=lambda segment: segment.x0):
        if spans and one.x0 < spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], one.x1))
        else:
            spans.append((one.x0, one.x1))
    alone = all(len({_column(spans, one) for one in row}) == len(row) for row in rows)
    return spans if alone and len(spans) >= 2 else []


def _column(spans: list[tuple[float, float]], one: Segment) -> int:
    return next(index for index, (low, high) in enumerate(spans) if low <= one.x0 <= high)


def _table(rows: list[Row], columns: list[tuple[float, float]]) -> Table:
    backwards = rows[0][0].x0 > rows[0][-1].x0
    made = []
    for row in rows:
        cells = [""] * len(columns)
        for one in row:
            cells[_column(columns, one)] = one.text
        made.append(tuple(reversed(cells) if backwards else cells))
    return Table(tuple(made), rows[0][0].page)


def _one_line(row: Row) -> list[Segment | Table]:
    """A row that is no table is one line: a bullet with its text, or words set far apart."""
    first, last = row[0], row[-1]
    if len(row) == 1:
        return [first]
    return [
        Segment(
            text=" ".join(one.text for one in row),
            x0=min(one.x0 for one in row),
            x1=max(one.x1 for one in row),
            y0=min(one.y0 for one in row),
            y1=max(one.y1 for one in row),
            size=max(row, key=lambda one: len(one.text)).size,
            page=first.page,
            is_bold=all(one.is_bold for one in row),
            is_hyphenated=last.is_hyphenated,
        )
    ]


def usual_distance(segments: Sequence[Segment], size: float) -> float:
    """The distance from one line to the next that is most common, in points; 1.2 times the size where none is."""
    distances = Counter(
        round(above.y0 - below.y0, 1)
        for above, below in pairwise(segments)
        if 0 < above.y0 - below.y0 < 3 * size and abs(above.size - below.size) < 0.5
    )
    common, count = distances.most_common(1)[0] if distances else (0.0, 0)
    return common if count >= _MIN_COMMON else 1.2 * size
