"""What a reader of a row file gives: rows, and rows that cannot be read with the place where they stand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A row: where it begins, and what it says. For columnar files the offset is the number of the row.

    Attributes:
        raw: its bytes, or so many of them as are kept of a row that cannot be used; none for columnar files.
    """

    byte_offset: int
    line: int
    row: Mapping[str, Any]
    raw: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A row that cannot be read, and its first bytes."""

    byte_offset: int
    line: int
    reason: str
    cause: str
    raw: bytes


Rows = Iterator[Found | Broken]

_SURROGATE = re.compile("[\ud800-\udfff]")
# A string is one match, closed or not, so that brackets in it do not count; the match never goes back (possessive).
_NESTING = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def is_unicode(value: Any) -> bool:
    """Whether all text in a row can be written as UTF-8: JSON's escapes can name half a surrogate pair."""
    match value:
        case str():
            return value.isascii() or not _SURROGATE.search(value)
        case Mapping():
            return all(is_unicode(key) and is_unicode(item) for key, item in value.items())
        case list() | tuple():
            return all(is_unicode(item) for item in value)
    return True


def nests_deeper(text: str, limit: int) -> bool:
    """Whether the brackets of a JSON text nest deeper; without recursion, so that depth 10^5 does no harm."""
    if text.count("[") + text.count("{") <= limit:
        return False
    depth = 0
    for found in _NESTING.finditer(text):
        if found[0] in ("[", "{"):
            depth += 1
            if depth > limit:
                return True
        elif found[0] in ("]", "}"):
            depth -= 1
    return False


def loads(text: str) -> Any:
    """A JSON value; NaN and infinity are none.

    Raises:
        ValueError: the text is not JSON.
    """
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
