"""Looks for what a chat template does not render: tools, results, system texts and reasoning must not vanish."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from anneal.kit.chat.errors import ChatError
from anneal.kit.chat.messages import REASONING_FIELDS, tool_name
from anneal.kit.chat.rendering import Rendering, appears

_NONCE = "qzvxwk"
"""Stands in the place of a value to see whether the template renders it in some form of its own."""


def check_prompt(rendering: Rendering, upto: int, prompt: str) -> Iterator[str]:
    """Name the fields of the row that are not in the prompt of a turn.

    Reasoning of earlier turns is none of them: models drop it, in serving too.
    """
    for i, message in enumerate(rendering.messages[:upto]):
        where = f"messages[{i}]"
        if not appears(message["content"], prompt) and not _varies(rendering, upto, i, {"content": _NONCE}):
            yield f"{where}.content"
        for n, call in enumerate(message.get("tool_calls", ())):
            if not appears(call["function"]["name"], prompt):
                yield f"{where}.tool_calls[{n}]"
    yield from _tools(rendering, upto)


def check_turn(rendering: Rendering, index: int, target: str) -> Iterator[str]:
    """Name the fields of a learned turn that the loss does not cover."""
    message = rendering.messages[index]
    where = f"messages[{index}]"
    if not appears(message["content"], target):
        yield f"{where}.content"
    if not appears(message.get(REASONING_FIELDS[0], ""), target):
        yield f"{where}.reasoning"
    for n, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        values = list(_leaves(function["arguments"]))
        if not appears(function["name"], target):
            yield f"{where}.tool_calls[{n}].name"
        elif not all(appears(value, target) for value in values):
            yield f"{where}.tool_calls[{n}].arguments"


def _varies(rendering: Rendering, upto: int, i: int, change: Mapping[str, Any]) -> bool:
    """Whether the prompt shows another value in the place of a message's own."""
    try:
        changed = rendering.text(upto, prompt=True, changed={i: {**rendering.messages[i], **change}})
    except ChatError:
        return False
    return _NONCE in changed


def _tools(rendering: Rendering, upto: int) -> Iterator[str]:
    """Name the tools whose description the prompt does not show; a name may stand elsewhere in it."""
    if not rendering.tools:
        return
    changed = [dict(tool) for tool in rendering.tools]
    for n, tool in enumerate(changed):
        if tool_name(tool):
            tool["function"] = {**tool["function"], "name": f"{_NONCE}{n}{_NONCE}"}
    try:
        shown = rendering.with_tools(upto, changed)
    except ChatError:
        shown = ""
    for n, tool in enumerate(changed):
        if tool_name(tool) and tool_name(tool) not in shown:
            yield f"tools[{n}]"


def _leaves(value: Any) -> Iterator[str]:
    """The texts and numbers in the arguments of a call, as JSON writes them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield json.dumps(value)
