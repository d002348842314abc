"""What every exporter has in common: rows as records of a format, and what a format cannot hold, counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anneal.kit.chat.messages import split_reasoning
from anneal.kit.messages import plain_message
from anneal.kit.records import RecordKind

Row = Mapping[str, Any]
Record = dict[str, Any]
_OURS = ("imported",)
"""Keys of `meta` that say how a row came here, and are no columns of it."""


class LeftOut(Exception):
    """A row that a format cannot hold without making it another one; its text says which part."""


@dataclass(slots=True)
class Losses:
    """What was not written.

    Attributes:
        rows: rows left out, by what of them the format cannot hold.
        fields: parts left out of rows that were written, by name.
    """

    rows: Counter[str] = field(default_factory=Counter)
    fields: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporter:
    """One format.

    Attributes:
        kind: of the rows it holds.
        write: the records that a row becomes; raises `LeftOut`.
        wrapper: name of the list that holds the records inside one JSON object; empty for a record a line.
    """

    kind: RecordKind
    write: Callable[[Row, Losses], Sequence[Record]]
    wrapper: str = ""

    @property
    def suffix(self) -> str:
        """Of its files."""
        return ".json" if self.wrapper else ".jsonl"


def with_meta(record: Record, row: Row, losses: Losses) -> Record:
    """A record with the row's `meta` as columns; a key that the format has for itself cannot be one."""
    meta = json.loads(row.get("meta") or "{}")
    known = {name.lower() for name in record}
    for name, value in meta.items():
        if name in _OURS:
            continue
        if name.lower() in known:
            losses.fields[f"meta.{name}"] += 1
        else:
            record[name] = value
    for name in ("scores", "parents"):
        losses.fields[name] += bool(row.get(name))
    return record


def tools_of(row: Row) -> Record:
    """The tools of a row as a column; none where it has none."""
    return {"tools": json.loads(row["tools"])} if row.get("tools") else {}


def openai_message(turn: Row) -> Record:
    """A message as OpenAI's chat format has it; reasoning and weight beside its own fields."""
    plain = plain_message(turn)
    made: Record = {"role": plain["role"], "content": plain["content"]}
    if "reasoning" in plain:
        made["reasoning_content"] = plain["reasoning"]
    if "tool_calls" in plain:
        made["tool_calls"] = [
            {
                **({"id": call["id"]} if "id" in call else {}),
                "type": "function",
                "function": {"name": call["name"], "arguments": call.get("arguments", "{}")},
            }
            for call in plain["tool_calls"]
        ]
    made |= {name: plain[name] for name in ("tool_call_id", "name") if name in plain}
    return made | number(plain)


def number(turn: Row) -> Record:
    """The weight of a message as a whole number where it is one."""
    weight = turn.get("weight")
    return {} if weight is None else {"weight": int(weight) if float(weight).is_integer() else weight}


def with_thought(turn: Row) -> str:
    """A message's text, its reasoning in `<think>` before it.

    Raises:
        LeftOut: that would be read back as another text or other reasoning.
    """
    text, reasoning = turn.get("content") or "", turn.get("reasoning") or ""
    if turn["role"] != "assistant":
        return text
    written = f"<think>\n{reasoning}\n</think>\n\n{text}" if reasoning else text
    if split_reasoning(written) != (reasoning, text):
        raise LeftOut("reasoning or text that `<think>` does not keep apart")
    return written


def plain_text(turn: Row, losses: Losses) -> str:
    """The text of a message in a format that has nothing but texts.

    Raises:
        LeftOut: the message calls a tool, answers a call, has a weight, or says nothing.
    """
    if turn.get("tool_calls") or turn["role"] == "tool":
        raise LeftOut("tool calls")
    if turn.get("weight") is not None:
        raise LeftOut("weights of turns")
    losses.fields["name"] += bool(turn.get("name"))
    text = with_thought(turn)
    if not text.strip():
        raise LeftOut("turns without text")
    return text
