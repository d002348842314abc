"""Conversations as records: OpenAI's and ShareGPT's lists of messages, columns of questions and answers, trees."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from anneal.kit.exporters.base import (
    LeftOut,
    Losses,
    Record,
    Row,
    number,
    openai_message,
    plain_text,
    tools_of,
    with_meta,
    with_thought,
)

_SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


def openai(row: Row, losses: Losses) -> Sequence[Record]:
    """A list of messages with all they have."""
    record: Record = {"messages": [openai_message(turn) for turn in row["messages"]], **tools_of(row)}
    return [with_meta(record, row, losses)]


def sharegpt(row: Row, losses: Losses) -> Sequence[Record]:
    """Entries of speakers; calls of tools are entries of their own, behind the text beside them."""
    entries: list[Record] = []
    before = ""
    for turn in row["messages"]:
        if turn["role"] == before == "assistant":
            raise LeftOut("two turns of the assistant in a row")
        before = turn["role"]
        for name in ("name", "tool_call_id"):
            losses.fields[name] += bool(turn.get(name))
        calls = turn.get("tool_calls") or ()
        text = with_thought(turn)
        if text or not calls:
            entries.append({"from": _SPEAKERS[turn["role"]], "value": text, **number(turn)})
        if calls:
            losses.fields["id of a tool call"] += sum(bool(call.get("id")) for call in calls)
            made = [_call(call) for call in calls]
            value = json.dumps(made if len(made) > 1 else made[0], ensure_ascii=False)
            entries.append({"from": "function_call", "value": value, **({} if text else number(turn))})
    return [with_meta({"conversations": entries, **tools_of(row)}, row, losses)]


def _call(call: Row) -> Record:
    """A call with its arguments as an object, or as the text they are where that would read differently."""
    text = call.get("arguments") or "{}"
    arguments = json.loads(text)
    same = isinstance(arguments, dict) and json.dumps(arguments, ensure_ascii=False) == text
    return {"name": call["name"], "arguments": arguments if same else text}


def columns(question: str, answer: str, more: Record | None = None) -> Callable[[Row, Losses], Sequence[Record]]:
    """Writes questions and answers into two columns, with `system` and `history` beside them.

    Args:
        question: column of the last question.
        answer: column of its answer.
        more: columns that the format has besides.
    """

    def write(row: Row, losses: Losses) -> Sequence[Record]:
        turns = [(turn["role"], plain_text(turn, losses)) for turn in row["messages"]]
        system = turns.pop(0)[1] if turns[0][0] == "system" else ""
        if [role for role, _ in turns] != ["user", "assistant"] * (len(turns) // 2) or not turns:
            raise LeftOut("turns that are not by turns of user and assistant")
        texts = [text for _, text in turns]
        record: Record = {question: texts[-2], **(more or {}), answer: texts[-1]}
        if system:
            record["system"] = system
        if len(texts) > 2:
            record["history"] = [[texts[at], texts[at + 1]] for at in range(0, len(texts) - 2, 2)]
        return [with_meta(record | tools_of(row), row, losses)]

    return write


def _tree_turns(row: Row, losses: Losses) -> list[tuple[str, str]]:
    if row.get("tools"):
        raise LeftOut("tools")
    roles = {"user": "prompter", "assistant": "assistant", "system": "system"}
    return [(roles.get(turn["role"], ""), plain_text(turn, losses)) for turn in row["messages"]]


def oasst(row: Row, losses: Losses) -> Sequence[Record]:
    """A tree of one path."""
    node: Any = None
    for role, text in reversed(_tree_turns(row, losses)):
        node = {"role": role, "text": text, "replies": [] if node is None else [node]}
    tree = json.loads(row.get("meta") or "{}").get("tree")
    return [with_meta({**({"message_tree_id": tree} if tree else {}), "prompt": node}, _without_tree(row), losses)]


def oasst_flat(row: Row, losses: Losses) -> Sequence[Record]:
    """A message a record, each with the one it answers; the row's columns stand with the first."""
    name = str(row["id"])[:16]
    records: list[Record] = [
        {"message_id": f"{name}-{at}", "parent_id": f"{name}-{at - 1}" if at else None, "role": role, "text": text}
        for at, (role, text) in enumerate(_tree_turns(row, losses))
    ]
    tree = json.loads(row.get("meta") or "{}").get("tree")
    if tree:
        records[0]["message_tree_id"] = tree
    records[0] = with_meta(records[0], _without_tree(row), losses)
    return records


def _without_tree(row: Row) -> Row:
    meta = json.loads(row.get("meta") or "{}")
    return {**row, "meta": json.dumps({name: value for name, value in meta.items() if name != "tree"})}
