"""Messages as the formats of the world write them, read into the messages of rows.

A message has its role in `role` or `from` and its text in `content` or `value`: as text, or as a list of parts. Calls
of tools stand in `tool_calls`, in OpenAI's older `function_call`, or in an entry of their own; reasoning in a field
beside the text or in `<think>` before it. Marks that say whether a turn is learned (`weight`, `loss_weight`, `loss`,
`train`) become its weight. What else a message has is kept in the row's `meta`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from anneal.ingestion.adapters.importers.base import BadRow, json_text
from anneal.ingestion.adapters.media import check_text
from anneal.ingestion.adapters.rows import loads
from anneal.kit.chat.messages import split_reasoning

ROLE_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "tool_response", "ipython"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "call"),
}
"""Roles and speakers by what they are called; a `call` is an assistant's turn whose text is the calls it makes."""
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
MARKS = ("weight", "loss_weight", "loss", "train")
TEXT_PARTS = ("text", "input_text", "output_text", "refusal")
_READ = frozenset(
    {"role", "from", "content", "value", "tool_calls", "function_call", "tool_call_id", "name", "refusal"}
    | set(REASONING_FIELDS)
    | set(MARKS)
)
_PARTIAL_MARKS = ("train_detail", "training_detail", "train_details")


def read_turns(value: Any, field: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The messages in a field, and what of them no message holds: `{place: {field: value}}`, to be kept in `meta`.

    Raises:
        BadRow: it is no list with entries, or one of them cannot be read.
    """
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list) or not value:
        raise BadRow("wrong_type", f"the field {field!r} is not a list with entries")
    turns: list[dict[str, Any]] = []
    more: dict[str, Any] = {}
    for number, entry in enumerate(value):
        if not isinstance(entry, Mapping):
            raise BadRow("wrong_type", f"message {number} of {field!r} is not an object")
        entry = {key: item for key, item in entry.items() if item is not None}
        turn, is_call = _turn(entry, number)
        if is_call and turns and turns[-1]["role"] == "assistant":
            turns[-1].setdefault("tool_calls", []).extend(turn["tool_calls"])
            turns[-1]["content"] = turns[-1]["content"] or None
        else:
            turns.append(turn)
        rest = {key: item for key, item in entry.items() if key not in _READ}
        if rest:
            more[str(len(turns) - 1)] = rest
    return turns, {"message_fields": more} if more else {}


def turns_in_text(value: Any) -> Any:
    """A list of messages, or one, that is written as JSON text; anything else as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        found = loads(value)
    except (ValueError, RecursionError):
        return value
    listed = found if isinstance(found, list) else [found]
    are_turns = all(isinstance(one, Mapping) and one.keys() & {"role", "from"} for one in listed)
    return found if listed and are_turns else value


def _turn(entry: Mapping[str, Any], number: int) -> tuple[dict[str, Any], bool]:
    role, is_call = _role(entry, number)
    partial = next((mark for mark in _PARTIAL_MARKS if entry.get(mark)), None)
    if partial:
        raise BadRow("unsupported_mark", f"message {number} marks parts of its text as learned ({partial!r})")
    if is_call:
        calls = _calls(_parsed_calls(_raw_text(entry, number), number), number)
        return {"role": role, "content": None, "tool_calls": calls, **_more(entry, number)}, True
    content, reasoning = _content(entry, number)
    calls = _calls(_given_calls(entry, number), number)
    reasoning = reasoning or _reasoning(entry, number)
    if role == "assistant" and content and not reasoning:
        reasoning, content = split_reasoning(content)
    if content is None and not calls:
        raise BadRow("wrong_type", f"the content of message {number} is missing: it is neither text nor calls")
    check_text(content, role, number)
    turn: dict[str, Any] = {"role": role, "content": content, **_more(entry, number)}
    if calls:
        turn["content"] = content or None
        turn["tool_calls"] = calls
    if reasoning:
        turn["reasoning"] = reasoning
    return turn, False


def _role(entry: Mapping[str, Any], number: int) -> tuple[str, bool]:
    said = entry.get("role", entry.get("from"))
    if not isinstance(said, str):
        raise BadRow("wrong_type", f"message {number} has no role")
    role = ROLE_NAMES.get(said.strip().lower(), said)
    return ("assistant", True) if role == "call" else (role, False)


def _raw_text(entry: Mapping[str, Any], number: int) -> Any:
    value = entry.get("content", entry.get("value"))
    if value is None:
        raise BadRow("missing_field", f"message {number} has no calls in it")
    return value


def _content(entry: Mapping[str, Any], number: int) -> tuple[str | None, str]:
    """Text and reasoning of a message; parts are joined."""
    content = entry.get("content", entry.get("value", entry.get("refusal")))
    if isinstance(content, Mapping):
        content = [content]
    if isinstance(content, list):
        parts = [_content_part(part, number) for part in content]
        return "".join(text for text, _ in parts), "".join(thought for _, thought in parts)
    if content is not None and not isinstance(content, str):
        raise BadRow("wrong_type", f"the content of message {number} is {type(content).__name__}, not text")
    return content, ""


def _content_part(part: Any, number: int) -> tuple[str, str]:
    """Text and reasoning of one part of a content."""
    if isinstance(part, str):
        return part, ""
    if isinstance(part, Mapping):
        kind = part.get("type") or "text"
        if kind in ("thinking", "reasoning"):
            return "", _thought(part, number)
        texts = [part[key] for key in ("text", "value", "content", "refusal") if part.get(key) is not None]
        if kind in TEXT_PARTS and len(texts) == 1 and isinstance(texts[0], str):
            return texts[0], ""
        raise BadRow("unsupported_content", f"message {number} holds a part of the type {str(kind)[:40]!r}: not text")
    raise BadRow("unsupported_content", f"message {number} holds parts that are not text")


def _thought(part: Mapping[str, Any], number: int) -> str:
    thought = next((part[key] for key in ("thinking", "reasoning", "text", "value") if part.get(key) is not None), "")
    if isinstance(thought, list):
        return "".join(_content_part(one, number)[0] for one in thought)
    if not isinstance(thought, str):
        raise BadRow("wrong_type", f"the reasoning of message {number} is {type(thought).__name__}, not text")
    return thought


def _reasoning(entry: Mapping[str, Any], number: int) -> str:
    for field in REASONING_FIELDS:
        value = entry.get(field)
        if value is not None and not isinstance(value, str):
            raise BadRow("wrong_type", f"the field {field!r} of message {number} is {type(value).__name__}, not text")
        if value and value.strip():
            return value
    return ""


def _more(entry: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Name, id of the answered call, and weight, where they are there."""
    found: dict[str, Any] = {}
    for field in ("name", "tool_call_id"):
        value = entry.get(field)
        if value is not None and not isinstance(value, str):
            raise BadRow("wrong_type", f"the field {field!r} of message {number} is {type(value).__name__}, not text")
        if value:
            found[field] = value
    weight = weight_of(entry, f"message {number}")
    return found if weight is None else {**found, "weight": weight}


def weight_of(entry: Mapping[str, Any], what: str) -> float | None:
    """What the marks of a turn say it counts; None where it has none.

    Raises:
        BadRow: a mark is no number from 0 on and no truth value, or two marks say different things.
    """
    weights = set()
    for mark in MARKS:
        value = entry.get(mark)
        if value is None:
            continue
        if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise BadRow("wrong_type", f"{mark!r} of {what} is {str(value)[:40]}, no number from 0 on")
        weights.add(float(value))
    if len(weights) > 1:
        raise BadRow("conflicting_marks", f"the marks of {what} say {sorted(weights)}")
    return weights.pop() if weights else None


def _given_calls(entry: Mapping[str, Any], number: int) -> list[Any]:
    """The calls beside a message's text."""
    calls = entry.get("tool_calls")
    if isinstance(calls, str):
        calls = _parsed_calls(calls, number) if calls.strip() else None
    if calls is not None and not isinstance(calls, list):
        raise BadRow("wrong_type", f"the tool calls of message {number} are {type(calls).__name__}, not a list")
    older = entry.get("function_call")
    return [*(calls or ()), *([older] if older else ())]


def _parsed_calls(value: Any, number: int) -> list[Any]:
    """Calls as JSON text: one, or a list of them."""
    if isinstance(value, str):
        try:
            value = loads(value)
        except (ValueError, RecursionError) as error:
            raise BadRow("bad_tool_call", f"message {number} is a tool call that is not JSON: {error}") from error
    return value if isinstance(value, list) else [value]


def _calls(calls: Iterable[Any], number: int) -> list[dict[str, Any]]:
    return [_call(call, number) for call in calls]


def _call(call: Any, number: int) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping) or not isinstance(name, str) or not name:
        raise BadRow("bad_tool_call", f"a tool call of message {number} has no name")
    arguments: Any = next((function[key] for key in ("arguments", "parameters") if function.get(key) is not None), {})
    found = {"name": name, "arguments": _arguments(arguments, number)}
    return {"id": call["id"], **found} if isinstance(call.get("id"), str) and call["id"] else found


def _arguments(value: Any, number: int) -> str:
    """Arguments as the JSON text they are given as, or made into one."""
    if not isinstance(value, str):
        json_text(value, f"the arguments of a tool call of message {number}")
        return json.dumps(value, ensure_ascii=False)
    if not value.strip():
        return "{}"
    try:
        loads(value)
    except (ValueError, RecursionError) as error:
        cause = f"the arguments of a tool call of message {number} are not JSON: {error}"
        raise BadRow("bad_tool_call", cause) from error
    return value
