"""Messages of conversations: which fields they have, what tells them apart, and what they say.

A message is a mapping `{role, content, name?, tool_calls?, tool_call_id?, reasoning?, weight?}`. A field that is not
there, is None, or is an empty list of calls, is absent, and leaves no trace: not in a row's id, not in what is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CALL_FIELDS = ("id", "name", "arguments")
OPTIONAL_FIELDS = ("name", "tool_calls", "tool_call_id", "reasoning", "weight")
"""The fields that a message may have beside its role and its content."""
Message = Mapping[str, Any]


def plain_message(turn: Message) -> dict[str, Any]:
    """A message with its role, its content (None where it has none), and only those other fields that it has."""
    kept: dict[str, Any] = {"role": turn["role"], "content": turn.get("content")}
    for name in OPTIONAL_FIELDS:
        value = turn.get(name)
        if name == "tool_calls":
            value = [plain_call(call) for call in value or ()]
        if value is not None and value != []:
            kept[name] = float(value) if name == "weight" else value
    return kept


def plain_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call of a tool with the fields that it has; `arguments` is JSON text."""
    return {name: call[name] for name in CALL_FIELDS if call.get(name) is not None}


def plain_messages(turns: Sequence[Message] | None) -> list[dict[str, Any]]:
    """Messages, each with the fields that it has; none for None."""
    return [plain_message(turn) for turn in turns or ()]


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it was read from a shard, its messages without the fields that they do not have."""
    changed = {name: plain_messages(row[name]) for name in ("messages", "chosen", "rejected") if row.get(name)}
    return {**row, **changed}


def identity(turns: Sequence[Message]) -> list[Any]:
    """What tells messages apart, as JSON values: pairs of role and content, and behind them the fields beside those."""
    told = []
    for turn in plain_messages(turns):
        role, content = turn.pop("role"), turn.pop("content")
        told.append([role, content, turn] if turn else [role, content])
    return told


def said(turn: Message) -> str:
    """All that a message says, as one text: its reasoning, its content, and the calls it makes, a line for each."""
    calls = (f"{call.get('name') or ''} {call.get('arguments') or ''}".strip() for call in turn.get("tool_calls") or ())
    return "\n".join(filter(None, (turn.get("reasoning"), turn.get("content"), *calls)))
