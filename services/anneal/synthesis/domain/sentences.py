"""Sentences of English technical prose, decided by punctuation and never across a paragraph.

The rule is our own and deliberately small: a mark ends a sentence unless it belongs to an abbreviation, an
initial, an ellipsis that goes on, a list number, a lone sign, or a bracket or a piece of code that is still open.
"""

from __future__ import annotations

import re
from bisect import bisect_right

_NEVER_END = "e.g i.e eg ie cf vs viz resp approx ca al fig figs eq eqs sec mr mrs ms dr prof st"
NEVER_END = frozenset(_NEVER_END.split())
END_BEFORE_CAPITAL = frozenset(("etc", "inc", "ltd", "jr", "sr"))
NUMBERED = frozenset(("no", "nos", "p", "pp", "vol", "ch"))

_PARAGRAPHS = re.compile(r"\n[^\S\n]*\n\s*")
_MARK = re.compile(r"([.!?\u2026]+)([\"'\u201d\u2019)\]}\u00bb]*)(?=\s|$)")
_SPACE = re.compile(r"\s+")
_CODE = re.compile(r"`[^`]+`")
_INITIAL = re.compile(r"[A-Z]")
_BRACKET = re.compile(r"[()\[\]{}]")
_OPENING = "([{\"'\u201c\u2018\u00ab"
_OPEN = {"(": ")", "[": "]", "{": "}"}


def one_line(text: str) -> str:
    """The text with every run of white space as one blank."""
    return _SPACE.sub(" ", text).strip()


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text: what blank lines separate. Empty ones are left out."""
    return [part.strip() for part in _PARAGRAPHS.split(text) if part.strip()]


def split_sentences(paragraph: str) -> list[str]:
    """The sentences of one paragraph, white space collapsed; the last one may lack its mark."""
    line = one_line(paragraph)
    found, start = [], 0
    for end in boundaries(line):
        found.append(line[start:end].strip())
        start = end
    if line[start:].strip():
        found.append(line[start:].strip())
    return found


def sentences(text: str) -> list[str]:
    """The sentences of a text, paragraph by paragraph."""
    return [sentence for paragraph in paragraphs(text) for sentence in split_sentences(paragraph)]


def first_sentence(text: str) -> str:
    """The lead sentence of the first paragraph, or "" where that paragraph completes none."""
    lead = paragraphs(text)[:1]
    if not lead:
        return ""
    line = one_line(lead[0])
    ends = boundaries(line)
    return line[: ends[0]] if ends else ""


def cut(text: str, characters: int) -> str:
    """At most `characters` of the text, ending with a whole sentence, or with a whole word if the first is longer."""
    line = one_line(text)
    if len(line) <= characters:
        return line
    fitting = [end for end in boundaries(line) if end <= characters]
    if fitting:
        return line[: fitting[-1]]
    return line[: characters + 1].rpartition(" ")[0] or line[:characters]


def boundaries(line: str) -> list[int]:
    """Offsets just behind each sentence of one line, closing quotes and brackets included."""
    brackets = _closed_brackets(line)
    starts = [start for start, _ in brackets]
    return [mark.end() for mark in _MARK.finditer(line) if _ends(line, mark, brackets, starts)]


def _ends(line: str, mark: re.Match[str], brackets: list[tuple[int, int]], starts: list[int]) -> bool:
    before, following = line[: mark.start()], line[mark.end() + 1 : mark.end() + 2]
    if not before.strip(_OPENING) or before.rstrip(_OPENING)[-1:].isspace() or _inside(mark.end(), brackets, starts):
        return False
    signs = mark.group(1)
    if (len(signs) > 1 and set(signs) == {"."}) or "\u2026" in signs:
        return not following or following.isupper()
    if signs != ".":
        return not following or not following.islower()
    return not _is_abbreviation(before, following)


def _is_abbreviation(before: str, following: str) -> bool:
    words = before.rsplit(maxsplit=2)
    token = words[-1].lstrip(_OPENING)
    lowered = token.lower()
    if lowered in NEVER_END:
        return True
    if lowered in END_BEFORE_CAPITAL:
        return bool(following) and not following.isupper()
    if lowered in NUMBERED:
        return following.isdigit()
    if token.isdigit() and len(words) == 1:
        return True
    if _INITIAL.fullmatch(token) and following.isupper():
        return len(words) == 1 or words[-2][:1].isupper()
    return False


def _closed_brackets(line: str) -> list[tuple[int, int]]:
    """Outermost pairs of brackets or back ticks as (start, end); what is never closed hides nothing behind it."""
    pairs = [code.span() for code in _CODE.finditer(line)]
    prose = _CODE.sub(lambda code: "x" * len(code.group()), line)
    stack: list[tuple[str, int]] = []
    for found in _BRACKET.finditer(prose):
        sign, position = found.group(), found.start()
        if sign in _OPEN:
            stack.append((_OPEN[sign], position))
            continue
        depth = next((i for i in range(len(stack) - 1, -1, -1) if stack[i][0] == sign), None)
        if depth is not None:
            pairs.append((stack[depth][1], position + 1))
            del stack[depth:]
    outermost: list[tuple[int, int]] = []
    for start, end in sorted(pairs):
        if not outermost or start >= outermost[-1][1]:
            outermost.append((start, end))
    return outermost


def _inside(position: int, brackets: list[tuple[int, int]], starts: list[int]) -> bool:
    index = bisect_right(starts, position - 1) - 1
    return index >= 0 and brackets[index][0] < position < brackets[index][1]
