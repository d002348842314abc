"""Rows' messages as chat templates take them.

Templates are written for the messages of Hugging Face's `apply_chat_template`
(https://huggingface.co/docs/transformers/chat_templating): tools as JSON schemas of functions, tool calls as
`{"type": "function", "function": {"name", "arguments"}}` with the arguments as a mapping. Reasoning has no common name
there: `reasoning_content` (Qwen, DeepSeek, GLM), `thinking` (GPT-OSS), `reasoning`; each template reads one of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from anneal.kit.chat.errors import Malformed

Message = Mapping[str, Any]

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
REASONING_MARKS: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("<thinking>", "</thinking>"),
)
"""What families write around the thinking before an answer."""
_THOUGHT = re.compile(r"\s*<think>(?P<reasoning>.*?)</think>(?P<content>.*)", re.DOTALL)


def split_reasoning(content: str) -> tuple[str, str]:
    """A text that begins with `<think>...</think>` as reasoning and content; reasoning is empty where it does not."""
    match = _THOUGHT.fullmatch(content)
    if match is None:
        return "", content
    return match["reasoning"].strip("\n"), match["content"].lstrip("\n")


def parse_tools(tools: str | Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    """A row's tools as JSON schemas of functions; None when there are none.

    Raises:
        Malformed: they are no list of JSON objects.
    """
    if isinstance(tools, str):
        try:
            tools = json.loads(tools) if tools.strip() else None
        except (ValueError, RecursionError) as error:
            raise Malformed(f"the tools are no JSON: {error}", field="tools") from None
    if not tools:
        return None
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, Mapping) for tool in tools):
        raise Malformed("the tools are no list of JSON objects", field="tools")
    return [_function(tool) for tool in tools]


def _function(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Bare descriptions, as ShareGPT has them, become functions."""
    if "function" not in tool and "name" in tool:
        return {"type": "function", "function": dict(tool)}
    return dict(tool)


def tool_name(tool: Mapping[str, Any]) -> str:
    """The name of a parsed tool; empty when it has none."""
    function = tool.get("function")
    return str(function.get("name") or "") if isinstance(function, Mapping) else ""


def to_template(messages: Sequence[Message], *, arguments_as_text: bool = False) -> list[dict[str, Any]]:
    """Messages of a row as templates take them; absent fields stay absent.

    Args:
        messages: `{role, content, name?, tool_calls?, tool_call_id?, reasoning?, weight?}`.
        arguments_as_text: give the arguments of tool calls as JSON text, which some templates ask for.
    """
    return [_message(message, arguments_as_text) for message in messages]


def _message(message: Message, arguments_as_text: bool) -> dict[str, Any]:
    content, reasoning = message.get("content") or "", message.get("reasoning") or ""
    if message["role"] == "assistant" and not reasoning:
        reasoning, content = split_reasoning(content)
    made: dict[str, Any] = {"role": message["role"], "content": content}
    for field in ("name", "tool_call_id"):
        if message.get(field):
            made[field] = message[field]
    if message.get("tool_calls"):
        made["tool_calls"] = [_call(call, arguments_as_text) for call in message["tool_calls"]]
    if reasoning:
        made.update(dict.fromkeys(REASONING_FIELDS, reasoning))
    return made


def _call(call: Mapping[str, Any], arguments_as_text: bool) -> dict[str, Any]:
    arguments: Any = call.get("arguments") or "{}"
    if isinstance(arguments, str) and not arguments_as_text:
        try:
            parsed = json.loads(arguments)
        except (ValueError, RecursionError):
            parsed = None
        arguments = parsed if isinstance(parsed, dict) else arguments
    made: dict[str, Any] = {"type": "function", "function": {"name": call["name"], "arguments": arguments}}
    if call.get("id"):
        made["id"] = call["id"]
    return made
