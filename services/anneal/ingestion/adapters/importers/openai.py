"""OpenAI fine-tuning rows: `messages` with roles, `tools`, and a `weight` of 0 on turns that are not to be learnt.

A list of text parts as content is joined. A turn with weight 0 keeps its place; its number is kept in the row's
`meta.weights`, which training reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.importers.base import BadRow, Imported, conversation, json_text
from anneal.kit.records import RecordKind

_ROLES = {"developer": "system", "function": "tool"}


class OpenAI:
    """Reads OpenAI's message rows."""

    kind: RecordKind = "conversation"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether it has a list of messages."""
        return isinstance(row.get("messages"), list)

    def read(self, row: Mapping[str, Any]) -> Iterator[Imported]:
        """One conversation.

        Raises:
            BadRow: a message has the wrong shape.
        """
        messages = row.get("messages")
        if not isinstance(messages, list) or not messages:
            raise BadRow("wrong_type", "the field 'messages' is not a list with entries")
        turns, weights = [], []
        for number, message in enumerate(messages):
            if not isinstance(message, Mapping):
                raise BadRow("wrong_type", f"message {number} is not an object")
            role = message.get("role")
            if not isinstance(role, str):
                raise BadRow("wrong_type", f"message {number} has no role")
            turns.append((_ROLES.get(role, role), _content(message, number)))
            weights.append(_weight(message, number))
        tools = row.get("tools")
        if tools is not None and not isinstance(tools, list):
            raise BadRow("wrong_type", "the field 'tools' is not a list")
        meta = {"weights": weights} if any(weight != 1 for weight in weights) else None
        encoded = json_text(tools, "the field 'tools'") if tools else None
        yield conversation(turns, tools=encoded, meta=meta)


def _content(message: Mapping[str, Any], number: int) -> str:
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        if len(parts) != len(content) or not all(isinstance(part, str) for part in parts):
            raise BadRow("unsupported_content", f"message {number} holds parts that are not text")
        return "".join(str(part) for part in parts)
    if content is None and message.get("tool_calls"):
        return json_text(message["tool_calls"], f"the tool calls of message {number}")
    if not isinstance(content, str):
        raise BadRow("wrong_type", f"the content of message {number} is {type(content).__name__}, not text")
    return content


def _weight(message: Mapping[str, Any], number: int) -> int:
    weight = message.get("weight")
    if weight is None:
        return 1
    if isinstance(weight, bool) or weight not in (0, 1):
        raise BadRow("wrong_type", f"the weight of message {number} is neither 0 nor 1")
    return int(weight)
