"""OpenAssistant trees: a prompt with `replies`, each with `text`, `role` (prompter, assistant), `rank`, `deleted`.

A tree becomes one conversation: at every turn the best-ranked reply that was not deleted, down to the last assistant
turn. How many replies it leaves out is kept in `meta.other_replies`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.importers.base import BadRow, Imported, Turn, conversation, text_of
from anneal.ingestion.adapters.pairs import assistant, user
from anneal.kit.records import RecordKind

ROLES = {"prompter": "user", "user": "user", "human": "user", "assistant": "assistant", "system": "system"}
_MAX_TURNS = 200


class Oasst:
    """Reads OpenAssistant trees."""

    kind: RecordKind = "conversation"
    fields = frozenset({"prompt", "replies", "text", "role", "message_tree_id", "rank", "deleted"})

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether it is a tree of messages."""
        prompt = row.get("prompt")
        return (isinstance(prompt, Mapping) and "text" in prompt) or ("replies" in row and "text" in row)

    def read(self, row: Mapping[str, Any]) -> Iterator[Imported]:
        """The best path of the tree.

        Raises:
            BadRow: a message has the wrong shape, or no path ends with the assistant.
        """
        node: Any = row["prompt"] if isinstance(row.get("prompt"), Mapping) else row
        turns: list[Turn] = []
        others = 0
        while node is not None:
            if len(turns) == _MAX_TURNS:
                raise BadRow("too_many_turns", f"the tree is deeper than {_MAX_TURNS} turns")
            turns.append(_turn(node, is_first=not turns))
            node, left_out = best(node.get("replies") or [])
            others += left_out
        while turns and turns[-1]["role"] != "assistant":
            turns.pop()
        tree = {"tree": str(row["message_tree_id"])} if row.get("message_tree_id") else {}
        yield conversation(turns, meta={**tree, **({"other_replies": others} if others else {})} or None)


def _turn(node: Mapping[str, Any], *, is_first: bool) -> Turn:
    role = str(node.get("role", "prompter" if is_first else ""))
    if role not in ROLES:
        raise BadRow("unknown_role", f"the role {role!r} is not known")
    text = text_of(node, "text")
    if ROLES[role] == "assistant":
        return assistant(text)
    return user(text) if ROLES[role] == "user" else {"role": "system", "content": text}


def best(replies: Any) -> tuple[Mapping[str, Any] | None, int]:
    """The reply with the lowest rank, and how many others there are; those without a rank come last, in their order."""
    if not isinstance(replies, list):
        raise BadRow("wrong_type", "the field 'replies' is not a list")
    alive = [r for r in replies if isinstance(r, Mapping) and not r.get("deleted")]
    ranked = [(r["rank"] if isinstance(r.get("rank"), int | float) else len(alive), i) for i, r in enumerate(alive)]
    return (alive[min(ranked)[1]], len(replies) - 1) if ranked else (None, len(replies))
