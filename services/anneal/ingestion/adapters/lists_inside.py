"""The one list of objects inside a JSON object, which files of articles and exports of tools have instead of a list."""

from __future__ import annotations

import json
import re
from typing import BinaryIO

from anneal.ingestion.adapters.lines import BOM

_HEAD = 1 << 20
_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*)"|[\[\]{}:,]', re.S)
_OPENS_AN_OBJECT = re.compile(rb"\s*\{")
ROW_FIELDS = frozenset(
    {
        *("messages", "conversations", "prompt", "chosen", "rejected", "history", "tools", "functions", "replies"),
        *("input", "preferred_output", "non_preferred_output", "instruction", "output", "question", "query", "text"),
        *("completion", "response", "answer", "content"),
    }
)
"""Fields of rows: an object with one of these is a row itself, whatever lists it holds."""


def list_inside(file: BinaryIO) -> tuple[int | None, str]:
    """Where the list begins, and the names of the fields before it; None where the object is a row, or none.

    The list is the first field of the object that holds a list of objects.
    """
    file.seek(0)
    head = file.read(_HEAD)
    if not head.removeprefix(BOM).lstrip().startswith(b"{"):
        return None, ""
    depth, key, before, expects_value = 0, b"", [], False
    for token in _TOKEN.finditer(head):
        mark = token[0][:1]
        if depth == 1 and mark == b'"' and not expects_value:
            key = token[1]
            if _name(key) in ROW_FIELDS:
                return None, ""
        elif depth == 1 and mark == b":":
            expects_value = True
        elif depth == 1 and mark == b",":
            before.append(_name(key))
            expects_value = False
        elif mark == b"[" and depth == 1 and _OPENS_AN_OBJECT.match(head, token.end()):
            return token.start(), ", ".join(before)
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(mark, 0)
    return None, ""


def beside_after(data: bytes) -> tuple[str, str] | None:
    """What is wrong with what stands behind the list: reason and cause; None where it is the object's end."""
    rest = data.strip()
    if rest == b"}":
        return None
    if not rest:
        return "invalid_json", "the end of the object that holds the list is missing"
    try:
        fields = json.loads(b"{" + rest.removeprefix(b","))
    except (ValueError, RecursionError):
        return "invalid_json", "this stands in or behind the list that holds the rows, and is not JSON"
    return "beside_the_list", f"this stands beside the list that holds the rows: {', '.join(map(str, fields))}"


def _name(key: bytes) -> str:
    try:
        return str(json.loads(b'"' + key + b'"')).lower()
    except ValueError:
        return key.decode("utf-8", errors="replace").lower()
