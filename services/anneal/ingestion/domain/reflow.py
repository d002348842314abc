"""Lines of pages to a document: paragraphs, headings and lists again, without what is printed on every page.

A hyphen at a line's end is dropped where the next line goes on in lower case, unless the document writes the word with
its hyphen elsewhere and never without.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from anneal.ingestion.domain.page_layout import Segment, Table, usual_distance

Block = Segment | Table
_EdgeKey = tuple[str, int, int | None]
"""A line's text, its height on the page, and how far the number that was taken out of it is from counting pages."""

_EDGE_LINES = 2
_MIN_REPEATS = 3
_REPEAT_SHARE = 0.4
_MAX_HEADING_CHARACTERS = 200
_MAX_HEADING_LINES = 3
# A page's number stands first, last, or before how many there are: "3 of 10", "3 / 10".
_PAGE_NUMBER = re.compile(r"(?<!\w)([0-9]{1,6})(?=\W*$|\W+\w{0,4}\W*[0-9]+\W*$|(?:(?<=^[0-9])|(?<=^[0-9]{2,2}))\W)")
_LETTER = re.compile(r"[^\W\d_]")
_PRINTED = "#"
_BULLET = re.compile(r"^[•◦▪▫‣\u2043●○■□►·∙\uf0b7\uf0a7*\u2013—-](?=\s)\s*")
_NUMBERED = re.compile(r"^(?:\(?[0-9]{1,3}[.)]|\(?[a-zA-Z][.)])\s")
_SENTENCE_END = (".", "!", "?", ":", "。", "\uff01", "\uff1f", "\u06d4", "؟")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_TAIL = re.compile(r"([^\W\d_]+)[-\u2010]$")
_HEAD = re.compile(r"^[^\W\d_]+")


@dataclass(slots=True)
class Paragraph:
    """What stands between two blank lines.

    Attributes:
        level: 1 to 6 for a heading; 0 for text.
        pages: offset in `text` where each page's part begins, and the page's number.
    """

    text: str
    level: int
    pages: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Reflowed:
    """A document's paragraphs.

    Attributes:
        repeated: lines that stand on many pages, as they were left out, and on how many.
        hyphens: hyphens at line ends that were taken out.
    """

    paragraphs: list[Paragraph]
    repeated: dict[str, int]
    hyphens: int


def reflow(pages: Sequence[Sequence[Block]], outline: Mapping[tuple[int, str], int]) -> Reflowed:
    """Make paragraphs of pages of lines.

    Args:
        pages: each page's lines and tables, in reading order.
        outline: `(page, title as `title_key` gives it) -> level` of the file's bookmarks.
    """
    sizes: Counter[float] = Counter()
    words: set[str] = set()
    for line in (block for page in pages for block in page if isinstance(block, Segment)):
        sizes[_rounded(line.size)] += len(line.text)
        words.update(_WORD.findall(line.text.lower()))
    body = sizes.most_common(1)[0][0] if sizes else 0.0
    pages, repeated = _without_repeated(pages, body)
    writer = _Writer(body, sorted(sizes, reverse=True), words, outline)
    for page in pages:
        writer.page(page)
    writer.end()
    return Reflowed(writer.paragraphs, repeated, writer.hyphens)


def title_key(text: str) -> str:
    """A heading without what differs between a page and the bookmark of it: case, spaces, punctuation."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def _rounded(size: float) -> float:
    return round(size * 2) / 2


def _without_repeated(pages: Sequence[Sequence[Block]], body: float) -> tuple[list[list[Block]], dict[str, int]]:
    """Leave out lines at a page's top and bottom that stand at the same place of many pages.

    They may hold the page's number, and are no larger than the text: the titles of slides are.
    """
    seen: dict[_EdgeKey, list[int]] = {}
    edges: list[dict[int, list[_EdgeKey]]] = []
    for number, page in enumerate(pages):
        lines = sorted((block for block in page if isinstance(block, Segment)), key=lambda line: -line.y1)
        edge = [*lines[:_EDGE_LINES], *lines[-_EDGE_LINES:]]
        found = {id(line): _edge_keys(line, number) for line in edge if line.size <= 1.05 * body}
        edges.append(found)
        for key in {key for keys in found.values() for key in keys}:
            seen.setdefault(key, []).append(number)
    kept: list[list[Block]] = []
    repeated: Counter[str] = Counter()
    for page, found in zip(pages, edges, strict=True):
        rest: list[Block] = []
        for block in page:
            on_many = next((key for key in found.get(id(block), ()) if _is_repeated(key, seen[key])), None)
            if on_many is None:
                rest.append(block)
            else:
                repeated[on_many[0]] += 1
        kept.append(rest)
    return kept, dict(repeated)


def _edge_keys(line: Segment, number: int) -> list[_EdgeKey]:
    text, height = line.text.strip(), round(line.y0 / 4)
    keys: list[_EdgeKey] = [(text, height, None)]
    for printed in _PAGE_NUMBER.finditer(text):
        rest = f"{text[: printed.start(1)]}{_PRINTED}{text[printed.end(1) :]}"
        keys.append((rest, 0 if not _LETTER.search(rest) else height, int(printed[1]) - number))
    return keys


def _is_repeated(key: _EdgeKey, numbers: Sequence[int]) -> bool:
    """Whether a line stands on so many of the pages from its first to its last: a chapter's, or each second page.

    Numbers alone that count as the pages do are theirs, wherever they stand.
    """
    if not _LETTER.search(key[0]):
        return key[2] is not None and len(numbers) >= 2
    return len(numbers) >= max(_MIN_REPEATS, _REPEAT_SHARE * (numbers[-1] - numbers[0] + 1))


class _Writer:
    """Joins lines to paragraphs, in reading order."""

    def __init__(
        self, body: float, sizes: Sequence[float], words: set[str], outline: Mapping[tuple[int, str], int]
    ) -> None:
        self._body, self._words, self._outline = body, words, outline
        self._levels = {
            size: level for level, size in enumerate((s for s in sizes if s > 1.12 * body), start=1) if level <= 6
        }
        self._open: list[Segment] = []
        self._distance = 0.0
        self._rights: dict[int, float] = {}
        self.paragraphs: list[Paragraph] = []
        self.hyphens = 0

    def page(self, blocks: Sequence[Block]) -> None:
        """Add a page."""
        lines = [block for block in blocks if isinstance(block, Segment)]
        self._distance = usual_distance(lines, self._body)
        self._rights = self._rights_of(lines)
        for block in blocks:
            if isinstance(block, Table):
                self.end()
                self.paragraphs.append(Paragraph(block.markdown(), 0, [(0, block.page)]))
            else:
                if self._open and not self._goes_on(self._open[-1], block):
                    self.end()
                self._open.append(block)

    def _rights_of(self, lines: Sequence[Segment]) -> dict[int, float]:
        """Where full lines end, by where they begin; a line across all columns does not count."""
        ends: dict[int, list[float]] = {}
        for line in lines:
            ends.setdefault(self._left(line), []).append(line.x1)
        return {left: sorted(found)[int(0.8 * (len(found) - 1))] for left, found in ends.items()}

    def _left(self, line: Segment) -> int:
        return round(line.x0 / max(2 * self._body, 1))

    def end(self) -> None:
        """End the paragraph that is open."""
        lines, self._open = self._open, []
        if not lines:
            return
        text, pages = self._join(lines)
        level = self._level(lines, text)
        if level:
            text = f"{'#' * level} {text}"
            pages = [(0, pages[0][1])]
        elif bullet := _BULLET.match(text):
            text = "- " + text[bullet.end() :]
            pages = [(max(0, offset + 2 - bullet.end()), number) for offset, number in pages]
        if text.strip():
            self.paragraphs.append(Paragraph(text, level, pages))

    def _goes_on(self, above: Segment, line: Segment) -> bool:
        """Whether a line goes on with the paragraph of the line above it."""
        if abs(above.size - line.size) > 0.1 * above.size or (
            above.is_bold and not line.is_bold and len(self._open) == 1
        ):
            return False
        if _BULLET.match(line.text) or _NUMBERED.match(line.text):
            return False
        if above.page != line.page or line.y0 >= above.y0:  # the next page, or the next column
            return above.is_hyphenated or (not above.text.endswith(_SENTENCE_END) and line.text[:1].islower())
        if above.y0 - line.y0 > 1.3 * max(self._distance, line.size):
            return False
        if above.is_hyphenated:
            return True
        is_item = _BULLET.match(self._open[0].text) or _NUMBERED.match(self._open[0].text)
        is_indented = line.x0 - above.x0 > 0.8 * line.size and line.x1 > above.x0
        if is_indented and not is_item and not _is_right_to_left(line.text):
            return False
        if line.text[:1].islower():
            return True
        full = max(self._rights.get(self._left(above), 0.0), above.x1) - above.x0
        share = (above.x1 - above.x0) / max(full, 1.0)
        return share > (0.75 if above.text.endswith(_SENTENCE_END) else 0.5)

    def _join(self, lines: Sequence[Segment]) -> tuple[str, list[tuple[int, int]]]:
        text, pages = lines[0].text, [(0, lines[0].page)]
        for above, line in pairwise(lines):
            text = self._joined(text, above, line.text)
            if line.page != pages[-1][1]:
                pages.append((len(text) - len(line.text), line.page))
        return text, pages

    def _joined(self, text: str, above: Segment, following: str) -> str:
        marked = text + "-" if above.is_hyphenated else text
        tail, head = _TAIL.search(marked), _HEAD.match(following)
        if tail and head:
            first, second = tail[1].lower(), head[0].lower()
            with_hyphen = f"{first}-{second}" in self._words and first + second not in self._words
            if head[0][0].islower() and not with_hyphen:
                self.hyphens += 1
                return marked[:-1] + following
            return marked + following
        glue = "" if _is_wide(marked[-1:]) and _is_wide(following[:1]) else " "
        return marked + glue + following

    def _level(self, lines: Sequence[Segment], text: str) -> int:
        """The level of a heading, by the file's own bookmarks, by size, or by a bold line alone; 0 for text."""
        named = self._outline.get((lines[0].page, title_key(text)))
        if named:
            return min(named, 6)
        if len(lines) > _MAX_HEADING_LINES or len(text) > _MAX_HEADING_CHARACTERS or not re.search(r"[^\W\d_]", text):
            return 0
        if level := self._levels.get(_rounded(lines[0].size)):
            return level
        is_bold_line = all(line.is_bold for line in lines) and len(text) <= 100 and not text.endswith((".", ",", ";"))
        return min(len(self._levels) + 1, 6) if is_bold_line and not _BULLET.match(text) else 0


def _is_wide(character: str) -> bool:
    """Whether a script writes no spaces beside it. Korean does."""
    return unicodedata.east_asian_width(character or " ") in "WF" and not "\uac00" <= character <= "\ud7a3"


def _is_right_to_left(text: str) -> bool:
    strong = next((kind for c in text if (kind := unicodedata.bidirectional(c)) in ("L", "R", "AL")), "L")
    return strong != "L"
