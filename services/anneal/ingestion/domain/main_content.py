"""Which part of a page's text is its content: from the first to the last line that an extractor kept.

An extractor that knows what a page is about loses headings, list items, cells and code of it; the whole page has them
and its surroundings as well. Between the first and the last line of the one, the other is kept as it is, with what
stands right before and behind that is no paragraph and no list of links.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_MIN_CHARACTERS = 12
_MARKS = re.compile(r"^\s*(?:[#>*|:-]|\d+[.)]|`{3,}\w*)+\s*")
_STRUCTURE = re.compile(r"^\s*(?:#{1,6}\s|[-*|>]|\d+[.)]\s|:\s|`{3})")
_HEADING = re.compile(r"^#{1,6}\s")


def content_of(whole: str, extracted: str, links: Collection[str]) -> tuple[int, int] | None:
    """Where the content stands in `whole`; None where nothing of `extracted` is found there.

    Args:
        whole: all text of the page, in Markdown.
        extracted: what an extractor took for its content.
        links: texts of the page's links, as `plain_line` gives them.
    """
    haystack = plain_line(extracted)
    lines = whole.split("\n")
    plain = [plain_line(line) for line in lines]
    found = [n for n, line in enumerate(plain) if len(line) >= _MIN_CHARACTERS and line in haystack]
    if not found:
        return None
    first, last = found[0], found[-1]
    while first > 0 and _belongs(lines[first - 1], plain[first - 1], links, is_before=True):
        first -= 1
    while last + 1 < len(lines) and _belongs(lines[last + 1], plain[last + 1], links, is_before=False):
        last += 1
    kept = "\n".join(lines[first : last + 1])
    start = sum(len(line) + 1 for line in lines[:first]) + len(kept) - len(kept.lstrip("\n"))
    return start, start + len(kept.strip("\n"))


def plain_line(text: str) -> str:
    """A line without what Markdown adds, to compare by: letters and digits in lower case."""
    return "".join(character for character in _MARKS.sub("", text).casefold() if character.isalnum())


def _belongs(line: str, plain: str, links: Collection[str], *, is_before: bool) -> bool:
    """Whether a line next to the content is of it: a blank one, or one of a list, table, code or heading.

    A heading behind the content introduces something else, unless more of the content follows it.
    """
    if not line.strip():
        return True
    if _HEADING.match(line):
        return is_before
    return bool(_STRUCTURE.match(line)) and plain not in links
