"""A teacher's JSON answer: parsed, checked, and mended only where nothing else helps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import json_repair


class Unreadable(Exception):
    """The answer holds no JSON of the asked shape; `cause` is stable."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Parsed:
    """The items of an answer, and whether the text had to be mended to get at them."""

    items: list[Any]
    repaired: bool


def parse_items(text: str, key: str, *, truncated: bool) -> Parsed:
    """The list under `key` of a JSON object.

    A truncated answer loses its last item, which may have been cut in the middle.

    Raises:
        Unreadable: `empty_answer`, `truncated_answer` or `malformed_answer`.
    """
    if not text.strip():
        raise Unreadable("empty_answer", "the teacher answered nothing")
    value, repaired = _load(text)
    items = value.get(key) if isinstance(value, dict) else None
    if truncated and repaired:
        items = items[:-1] if isinstance(items, list) else None
        if not items:
            raise Unreadable("truncated_answer", "the answer was cut off before its first whole item")
    if not isinstance(items, list) or not items:
        raise Unreadable("malformed_answer", f"no list {key!r} in the answer")
    return Parsed(items, repaired)


def _load(text: str) -> tuple[Any, bool]:
    try:
        return json.loads(text, strict=False), False
    except (ValueError, RecursionError):
        pass
    try:
        return json_repair.loads(text), True
    except (ValueError, RecursionError) as error:
        raise Unreadable("malformed_answer", f"not JSON: {error}") from error
