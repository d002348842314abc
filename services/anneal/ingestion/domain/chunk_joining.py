"""Chunks that are too short, or that say nothing, joined to a neighbour.

A chunk says nothing where it is only headings, rules, code fences, or a table's header without a row. A heading
goes to the chunk behind it, which it introduces; a short chunk goes to the one before it. Where both together are too
long, text moves over from the neighbour instead, at the best border there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Span = tuple[int, int]

_DELIMITER = re.compile(r"^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$")
_HEADING = re.compile(r"^\s{0,3}#{1,6}(?:\s|$)")
_UNDERLINE = re.compile(r"^\s{0,3}(?:=+|-+)\s*$")
_FENCE = re.compile(r"^\s*(?:`{3,}|~{3,})[^`]*$")
_RULE = re.compile(r"^\s{0,3}(?:[-*_]\s*){3,}$")
_PASSES = 4
"""What is divided may give a weak neighbour that was passed by another chance."""

# Borders from the best to the worst; a border is where the match ends.
_BORDERS = (
    re.compile(r"\n\s*\n"),
    re.compile(r"\n"),
    re.compile(r"[.!?。\uff01\uff1f]['\")\]”\u2019]*\s*"),
    re.compile(r"\s+"),
)


def says_nothing(text: str) -> bool:
    """Whether a text has no letter or digit outside headings, rules, fences and the headers of tables."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        following = lines[index + 1] if index + 1 < len(lines) else ""
        is_header = "|" in line and "-" in following and "|" in following and bool(_DELIMITER.match(following))
        is_heading = bool(_HEADING.match(line)) or (bool(following.strip()) and bool(_UNDERLINE.match(following)))
        if is_header or is_heading or _FENCE.match(line) or _DELIMITER.match(line) or _RULE.match(line):
            continue
        if any(character.isalnum() for character in line):
            return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Joiner:
    """Joins the chunks of one text.

    Attributes:
        max_characters: longest chunk.
        min_characters: shortest chunk, at most half of the longest; 0 for none.
        overlap: characters that neighbours may share where text moved over.
    """

    text: str
    max_characters: int
    min_characters: int = 0
    overlap: int = 0

    def join(self, spans: Sequence[Span]) -> list[Span]:
        """Return the spans with each weak one joined; one is left weak only where nothing else can be done."""
        joined = list(spans)
        for _ in range(_PASSES):
            before = list(joined)
            self._pass(joined)
            if joined == before:
                break
        return joined

    def _pass(self, joined: list[Span]) -> None:
        index = 0
        while index < len(joined) > 1:
            if not self._is_weak(joined[index]):
                index += 1
                continue
            for low, merges in self._ways(joined, index):
                both = (joined[low][0], joined[low + 1][1])
                parts = self._merged(both) if merges else self._divided(both)
                if parts:
                    joined[low : low + 2] = parts
                    # What was merged may be weak still; of what was divided neither is.
                    index = low if merges else index + 1
                    break
            else:
                index += 1

    def _ways(self, spans: Sequence[Span], index: int) -> list[tuple[int, bool]]:
        """What to try for a weak span, the best first: the first span of a pair, and whether to merge or divide it."""
        before, behind = index - 1, index
        if self._introduces(spans[index]):
            ways = [(behind, True), (behind, False), (before, True), (before, False)]
        else:
            ways = [(before, True), (behind, True), (before, False), (behind, False)]
        return [(low, merges) for low, merges in ways if 0 <= low < len(spans) - 1]

    def _introduces(self, span: Span) -> bool:
        """Whether it says nothing and ends with what the next chunk belongs to: it is no closing fence or rule."""
        text = self.text[span[0] : span[1]]
        return says_nothing(text) and any(character.isalnum() for character in text)

    def _merged(self, span: Span) -> list[Span]:
        return [span] if span[1] - span[0] <= self.max_characters else []

    def _is_weak(self, span: Span) -> bool:
        return span[1] - span[0] < self.min_characters or says_nothing(self.text[span[0] : span[1]])

    def _divided(self, span: Span) -> list[Span]:
        """Cut a span in two that are both of the right length and say something; empty where it cannot be."""
        start, end = span
        longest, shortest = self.max_characters, max(self.min_characters, 1)
        low, high = max(start + shortest, end - longest), min(start + longest, end - shortest)
        places = list(self._boundaries(low, high, (low + high) // 2))
        for place in places:
            left, right = self._trimmed(start, place), self._trimmed(place, end)
            if not self._is_weak(left) and not self._is_weak(right):
                return [left, (self._earlier(left, right), right[1])]
        # Where not both can say something, at least both are long enough.
        return [(start, places[0]), (places[0], end)] if places and self.min_characters else []

    def _boundaries(self, low: int, high: int, middle: int) -> Iterator[int]:
        for border in _BORDERS:
            # One character before `low`, so that a border that ends at `low` is found.
            found = [match.end() for match in border.finditer(self.text, max(low - 1, 0), high)]
            yield from sorted((place for place in found if low <= place <= high), key=lambda place: abs(place - middle))
        yield from sorted(range(low, high + 1), key=lambda place: abs(place - middle))

    def _trimmed(self, start: int, end: int) -> Span:
        while start < end and self.text[start].isspace():
            start += 1
        while start < end and self.text[end - 1].isspace():
            end -= 1
        return start, end

    def _earlier(self, left: Span, right: Span) -> int:
        """Where the right part begins when it shares its overlap with the left one, at a word's beginning."""
        if not self.overlap:
            return right[0]
        earliest = max(right[0] - self.overlap, right[1] - self.max_characters, left[0] + 1)
        word = re.compile(r"(?<=\s)\S").search(self.text, earliest, right[0])
        return word.start() if word else right[0]
