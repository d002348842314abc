"""OpenAssistant's messages as a table: each row a message with `message_id`, `parent_id`, `text` and `role`.

The rows are joined by their parents into trees, which are read as `oasst` reads them; so the rows of all files are seen
before the first conversation. A message whose parent is nowhere, and what hangs on it, is quarantined.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.importers.base import BadRow, text_of
from anneal.ingestion.adapters.importers.oasst import Oasst

_PARENTS = ("parent_id", "parent_message_id", "parent")
MAX_MESSAGES = 2_000_000
Row = Mapping[str, Any]


class OasstFlat(Oasst):
    """Joins and reads the flat table of OpenAssistant."""

    fields = Oasst.fields | {"message_id", *_PARENTS}

    def recognises(self, row: Row) -> bool:
        """Whether it is one message of a tree."""
        return "message_id" in row and any(name in row for name in _PARENTS) and {"text", "role"} <= row.keys()

    def join(self, rows: Iterable[tuple[int, Row]]) -> Iterator[tuple[int, Row] | tuple[int, BadRow]]:
        """Trees under the numbers of their first messages, and messages that are in none.

        Raises:
            BadRow: there are more messages than can be joined in memory.
        """
        found: dict[str, tuple[int, dict[str, Any]]] = {}
        roots: list[str] = []
        children: dict[str, list[str]] = {}
        for number, row in rows:
            try:
                name, parent = text_of(row, "message_id"), _parent(row)
                if name in found:
                    raise BadRow("double_message", f"the message {name[:80]!r} is there twice")
            except BadRow as error:
                yield number, error
                continue
            if len(found) == MAX_MESSAGES:
                raise BadRow("too_many_messages", f"a table of more than {MAX_MESSAGES} messages cannot be joined")
            found[name] = number, {**row, "replies": []}
            (children.setdefault(parent, []) if parent else roots).append(name)
        joined = set(roots)
        waiting = list(roots)
        while waiting:
            name = waiting.pop()
            for child in children.get(name, ()):
                found[name][1]["replies"].append(found[child][1])
                joined.add(child)
                waiting.append(child)
        for name, (number, row) in found.items():
            if name not in joined:
                yield number, BadRow("parent_missing", f"the message's parent {_parent(row)[:80]!r} is in no tree")
        for name in roots:
            yield found[name]


def _parent(row: Row) -> str:
    """The id of the message that this one answers; empty for the first one of a tree."""
    value = next((row[name] for name in _PARENTS if row.get(name) not in (None, "")), "")
    if not isinstance(value, str):
        raise BadRow("wrong_type", f"the parent of the message is {type(value).__name__}, not text")
    return value
