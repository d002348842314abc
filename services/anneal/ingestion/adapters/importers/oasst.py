"""OpenAssistant trees: a prompt with `replies`, each with `text`, `role` (prompter, assistant), `rank`, `deleted`.

A tree becomes one conversation: at every turn the best-ranked reply that was not deleted, down to the last assistant
turn. The flat form (one message a row with `parent_id`) needs the whole file to be joined and is read as trees only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.importers.base import BadRow, Imported, conversation, text_of
from anneal.kit.records import RecordKind

_ROLES = {"prompter": "user", "assistant": "assistant", "system": "system"}
_MAX_TURNS = 200


class Oasst:
    """Reads OpenAssistant trees."""

    kind: RecordKind = "conversation"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether it is a tree of messages."""
        return isinstance(row.get("prompt"), Mapping) or ("replies" in row and "text" in row)

    def read(self, row: Mapping[str, Any]) -> Iterator[Imported]:
        """The best path of the tree.

        Raises:
            BadRow: a message has the wrong shape, or no path ends with the assistant.
        """
        node: Any = row["prompt"] if isinstance(row.get("prompt"), Mapping) else row
        turns: list[tuple[str, str]] = []
        while node is not None and len(turns) < _MAX_TURNS:
            role = str(node.get("role", "prompter" if not turns else ""))
            if role not in _ROLES:
                raise BadRow("unknown_role", f"the role {role!r} is not known")
            turns.append((_ROLES[role], text_of(node, "text")))
            node = _best(node.get("replies") or [])
        while turns and turns[-1][0] != "assistant":
            turns.pop()
        yield conversation(turns, meta={"tree": str(row["message_tree_id"])} if row.get("message_tree_id") else None)


def _best(replies: Any) -> Mapping[str, Any] | None:
    """The reply with the lowest rank; those without a rank come last, in their order."""
    if not isinstance(replies, list):
        raise BadRow("wrong_type", "the field 'replies' is not a list")
    alive = [r for r in replies if isinstance(r, Mapping) and not r.get("deleted")]
    ranked = [(r["rank"] if isinstance(r.get("rank"), int) else len(alive), i) for i, r in enumerate(alive)]
    return alive[min(ranked)[1]] if ranked else None
