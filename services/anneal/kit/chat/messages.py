"""Rows' messages as chat templates take them.

Templates are written for the messages of Hugging Face's `apply_chat_template`
(https://huggingface.co/docs/transformers/chat_templating): tools as JSON schemas of functions, tool calls as
`{"type": "function", "function": {"name", "arguments"}}`. Where they differ among each other is a `Form`. Reasoning has
no common name: `reasoning_content` (Qwen, DeepSeek, GLM), `thinking` (GPT-OSS, LFM2.5), `reasoning` (Gemma 4).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anneal.kit.chat.errors import Malformed

Message = Mapping[str, Any]

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
_HALF = re.compile("[\ud800-\udfff]")
_THOUGHT = re.compile(r"\s*<think>(?P<reasoning>.*?)</think>(?P<content>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Form:
    """How a chat template wants its messages.

    Attributes:
        parts: contents as lists of parts, which templates of vision models ask for.
        arguments_as_text: the arguments of calls as JSON text, else as a mapping.
        nothing_as_none: the content of a turn that only calls tools is none, else an empty text.
        reasoning_fields: the names under which reasoning is given.
    """

    parts: bool = False
    arguments_as_text: bool = False
    nothing_as_none: bool = False
    reasoning_fields: tuple[str, ...] = REASONING_FIELDS


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool: `arguments` as JSON values where its text is a JSON object, else None."""

    name: str
    arguments: Any
    text: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A message of a row, with empty texts for what it has not."""

    role: str
    content: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    name: str = ""
    tool_call_id: str = ""

    def in_form(self, form: Form) -> dict[str, Any]:
        """The message as a template takes it; absent fields stay absent."""
        content: Any = [{"type": "text", "text": self.content}] if form.parts else self.content
        if form.nothing_as_none and self.calls and not self.content:
            content = None
        made: dict[str, Any] = {"role": self.role, "content": content}
        for field, value in (("name", self.name), ("tool_call_id", self.tool_call_id)):
            if value:
                made[field] = value
        if self.calls:
            made["tool_calls"] = [_call(call, form) for call in self.calls]
        if self.reasoning:
            made.update(dict.fromkeys(form.reasoning_fields, self.reasoning))
        return made


def _call(call: Call, form: Form) -> dict[str, Any]:
    arguments = call.text if form.arguments_as_text or call.arguments is None else call.arguments
    made: dict[str, Any] = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    if call.id:
        made["id"] = call.id
    return made


def spoken(message: Message, index: int) -> Spoken:
    """A message `{role, content, name?, tool_calls?, tool_call_id?, reasoning?, weight?}` of a row.

    Raises:
        Malformed: it is not one.
    """
    where = f"messages[{index}]"
    texts = {field: _text(message.get(field), f"{where}.{field}") for field in ("role", "content", "reasoning")}
    ids = {field: _text(message.get(field), f"{where}.{field}") for field in ("name", "tool_call_id")}
    if not texts["role"]:
        raise Malformed("the message has no role", field=f"{where}.role")
    if texts["role"] == "assistant" and not texts["reasoning"]:
        texts["reasoning"], texts["content"] = split_reasoning(texts["content"])
    calls = message.get("tool_calls") or ()
    if not isinstance(calls, list | tuple):
        raise Malformed("the calls of tools are no list", field=f"{where}.tool_calls")
    return Spoken(**texts, **ids, calls=tuple(_called(c, f"{where}.tool_calls[{n}]") for n, c in enumerate(calls)))


def _called(call: Any, where: str) -> Call:
    if not isinstance(call, Mapping):
        raise Malformed("the call of a tool is no object", field=where)
    name = _text(call.get("name"), f"{where}.name")
    if not name:
        raise Malformed("the call names no tool", field=f"{where}.name")
    given = call.get("arguments")
    text = json.dumps(given, ensure_ascii=False) if isinstance(given, Mapping) else given
    text = _text(text, f"{where}.arguments") or "{}"
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    arguments = parsed if isinstance(parsed, dict) else None
    return Call(name, arguments, text, _text(call.get("id"), f"{where}.id"))


def _text(value: Any, field: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Malformed(f"it is {type(value).__name__}, and must be text", field=field)
    if not value.isascii() and _HALF.search(value):
        raise Malformed("it holds half of a surrogate pair, which is no character", field=field)
    return value


def split_reasoning(content: str) -> tuple[str, str]:
    """A text that begins with `<think>...</think>` as reasoning and content; reasoning is empty where it does not."""
    match = _THOUGHT.fullmatch(content)
    if match is None:
        return "", content
    return match["reasoning"].strip("\n"), match["content"].lstrip("\n")


def parse_tools(tools: str | Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    """A row's tools as JSON schemas of functions; None when there are none.

    Raises:
        Malformed: they are no list of JSON objects, each with a name.
    """
    if isinstance(tools, str):
        try:
            tools = json.loads(tools) if _text(tools, "tools").strip() else None
        except (ValueError, RecursionError) as error:
            raise Malformed(f"the tools are no JSON: {error}", field="tools") from None
    if not tools:
        return None
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, Mapping) for tool in tools):
        raise Malformed("the tools are no list of JSON objects", field="tools")
    made = [_function(tool) for tool in tools]
    for n, tool in enumerate(made):
        if not tool_name(tool):
            raise Malformed("the tool is no function with a name", field=f"tools[{n}]")
    return made


def _function(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Bare descriptions, as ShareGPT has them, become functions."""
    if "function" not in tool and "name" in tool:
        return {"type": "function", "function": dict(tool)}
    return dict(tool)


def tool_name(tool: Mapping[str, Any]) -> str:
    """The name of a parsed tool; empty when it has none."""
    function = tool.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else ""
