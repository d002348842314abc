"""The text of one PDF page as PDFium finds it: characters with their boxes, put together to segments.

PDFium writes out ligatures, brings right-to-left text into reading order and marks hyphens at line ends; its order of
lines is that of the file, so only its characters and boxes are taken.
"""

from __future__ import annotations

import ctypes
import math
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from anneal.ingestion.domain.page_layout import Segment

_GAP = 1.2
"""A gap of this many times the font size separates columns or cells."""
_ANGLE_SAMPLE = 200
_BOLD = 700
_HYPHEN_MARKS = (0x02, 0xFFFE)
_BULLETS = "\uf0b7\uf0a7"
_LIGATURES = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)}

Box = tuple[float, float, float, float]


@dataclass(slots=True)
class PageText:
    """What stands on a page.

    Attributes:
        characters: characters that are no white space.
        unmapped: those of them whose font does not say what they are.
        is_right_to_left: most letters are of a script written from right to left.
    """

    segments: list[Segment] = field(default_factory=list)
    characters: int = 0
    unmapped: int = 0
    is_right_to_left: bool = False


def text_of(page: pdfium.PdfPage, number: int) -> PageText:
    """Read a page.

    Raises:
        PdfiumError: the page cannot be read.
    """
    textpage = page.get_textpage()
    try:
        return _Reader(textpage, number).read()
    finally:
        textpage.close()


class _Reader:
    """One walk over the characters of a page."""

    def __init__(self, textpage: pdfium.PdfTextPage, number: int) -> None:
        self._textpage, self._number = textpage, number
        self._count = textpage.count_chars()
        self._turn = self._common_turn()
        self._rectangle = raw.FS_RECTF()
        self._result = PageText()
        self._text: list[str] = []
        self._boxes: list[Box] = []
        self._indexes: list[int] = []

    def read(self) -> PageText:
        """Return the page's text."""
        directions: Counter[str] = Counter()
        for index, code in self._codes():
            if code in _HYPHEN_MARKS and raw.FPDFText_IsHyphen(self._textpage, index) == 1:
                self._end(is_hyphenated=True)
                continue
            character = _LIGATURES.get(code) or _character(code)
            if character in ("\r", "\n"):
                self._end()
            elif character.isspace():
                self._text.append(" ")
            else:
                directions[unicodedata.bidirectional(character[0])] += 1
                self._add(character, index)
        self._end()
        self._result.is_right_to_left = directions["R"] + directions["AL"] > directions["L"]
        return self._result

    def _codes(self) -> Iterator[tuple[int, int]]:
        """The index and the code point of each character; two halves of a surrogate pair are one."""
        high = 0
        for index in range(self._count):
            code: int = raw.FPDFText_GetUnicode(self._textpage, index)
            if 0xD800 <= code < 0xDC00:
                high = code
                continue
            if high and 0xDC00 <= code < 0xE000:
                code = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00)
            high = 0
            yield index, code

    def _add(self, character: str, index: int) -> None:
        result = self._result
        result.characters += 1
        kind = unicodedata.category(character[0])
        if kind in ("Cc", "Cn", "Cs") or character == "\ufffd" or (kind == "Co" and character not in _BULLETS):
            result.unmapped += 1
            character = "\ufffd"
        box = self._box(index)
        if box is not None:
            if self._boxes and _is_separate(self._boxes[-1], box):
                self._end()
            self._boxes.append(box)
            self._indexes.append(index)
        self._text.append(character)

    def _box(self, index: int) -> Box | None:
        """The place of a character, its page turned so that most text is upright."""
        found = raw.FPDFText_GetLooseCharBox(self._textpage, index, ctypes.byref(self._rectangle))
        if not found:
            return None
        place = self._rectangle
        low, high = sorted((place.bottom, place.top))
        box = {
            0: (place.left, place.right, low, high),
            90: (low, high, -place.right, -place.left),
            180: (-place.right, -place.left, -high, -low),
            270: (-high, -low, place.left, place.right),
        }[self._turn]
        return box if all(map(math.isfinite, box)) else None

    def _common_turn(self) -> int:
        step = max(1, self._count // _ANGLE_SAMPLE)
        turns: Counter[int] = Counter()
        for index in range(0, self._count, step):
            angle = raw.FPDFText_GetCharAngle(self._textpage, index)
            if angle >= 0:
                turns[round(math.degrees(angle) / 90) * 90 % 360] += 1
        return turns.most_common(1)[0][0] if turns else 0

    def _end(self, *, is_hyphenated: bool = False) -> None:
        """End the segment that is open."""
        text, boxes, indexes = " ".join("".join(self._text).split()), self._boxes, self._indexes
        self._text, self._boxes, self._indexes = [], [], []
        if not text or not boxes:
            return
        # A word in another font does not make the line's size; the middle of three is what most of it has.
        sample = [0, len(boxes) // 2, -1]
        size = median(boxes[at][3] - boxes[at][2] for at in sample)
        named = median(raw.FPDFText_GetFontSize(self._textpage, indexes[at]) for at in sample)
        self._result.segments.append(
            Segment(
                text=text,
                x0=min(box[0] for box in boxes),
                x1=max(box[1] for box in boxes),
                y0=min(box[2] for box in boxes),
                y1=max(box[3] for box in boxes),
                size=named if named > 1 else size,  # a size of 1 is scaled by the text's matrix
                page=self._number,
                is_bold=self._is_bold(indexes[0]) and self._is_bold(indexes[-1]),
                is_hyphenated=is_hyphenated,
            )
        )

    def _is_bold(self, index: int) -> bool:
        if raw.FPDFText_GetFontWeight(self._textpage, index) >= _BOLD:
            return True
        name = ctypes.create_string_buffer(128)
        raw.FPDFText_GetFontInfo(self._textpage, index, name, 128, None)
        return b"bold" in name.value.lower()


def _character(code: int) -> str:
    return chr(code) if 0 < code <= 0x10FFFF else "\ufffd"


def _is_separate(before: Box, box: Box) -> bool:
    """Whether a character stands on another line, or behind a gap, to either side."""
    height = max(min(before[3] - before[2], box[3] - box[2]), 1.0)
    if min(before[3], box[3]) - max(before[2], box[2]) < 0.3 * height:
        return True
    return max(box[0] - before[1], before[0] - box[1]) > _GAP * height
