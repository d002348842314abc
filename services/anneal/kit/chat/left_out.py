"""Looks for what a chat template does not render: tools, results, system texts and reasoning must not vanish.

Each conversation is looked through twice. Words that occur nowhere else stand in the place of its texts, once for all
conversations of the same shape: this shows what the template does not render at all. And each text itself is looked
for, since a template may drop one for what it says; where it is not found as it is, what the template makes of it must
not be shorter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from anneal.kit.chat.errors import ChatError
from anneal.kit.chat.messages import Call, Spoken
from anneal.kit.chat.rendering import Rendering

Path = tuple[Any, ...]
"""Where a text stands: `(2, "content")`, `(3, "calls", 0, "arguments", "city")`, `("tools", 0, "function", "name")`."""
Show = Callable[[Rendering], str]
"""What is looked through of a conversation: a prompt, or what is learned of a turn."""
_BEFORE, _BEHIND = "qzvx7wk", "qzvx8wk"


def shape_of(value: Any) -> Any:
    """A JSON value without what its texts and numbers say: equal for conversations that a template treats alike."""
    if isinstance(value, Mapping):
        return tuple((key, shape_of(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(shape_of(item) for item in value)
    return bool(value.strip()) if isinstance(value, str) else type(value).__name__


def shape_of_conversation(rendering: Rendering, upto: int) -> Any:
    """The shape of the first messages and of the tools."""
    messages = tuple(
        (m.role, *map(shape_of, (m.content, m.reasoning, m.name, m.tool_call_id)), _shape_of_calls(m))
        for m in rendering.messages[:upto]
    )
    return messages, shape_of(rendering.tools)


def _shape_of_calls(message: Spoken) -> Any:
    return tuple((shape_of(call.arguments), bool(call.id)) for call in message.calls)


def unseen_in_shape(rendering: Rendering, paths: Sequence[Path], show: Show) -> frozenset[Path]:
    """The texts that are not rendered whatever they say; none where the template cannot render other words."""
    words = {path: f"qzvx{n}y{len(paths)}wk" for n, path in enumerate(paths)}
    try:
        shown = show(_changed(rendering, words))
    except ChatError:
        return frozenset()
    return frozenset(path for path, word in words.items() if word not in shown)


def unseen(rendering: Rendering, texts: Mapping[Path, str], shown: str, show: Show) -> Iterator[Path]:
    """The texts that are not in what is shown, neither as they are nor in a form of the template's own."""
    for path, text in texts.items():
        if not appears(text, shown) and not _in_some_form(rendering, path, text, show):
            yield path


def _in_some_form(rendering: Rendering, path: Path, text: str, show: Show) -> bool:
    """Whether a text between two other words is rendered with them, and not shorter than it is."""
    try:
        shown = show(_changed(rendering, {path: f"{_BEFORE}{text}{_BEHIND}"}))
    except ChatError:
        return False
    begin = shown.find(_BEFORE)
    end = shown.find(_BEHIND, begin)
    return 0 <= begin < end and _letters(shown[begin + len(_BEFORE) : end]) >= _letters(text)


def _letters(text: str) -> int:
    return sum(not character.isspace() for character in text)


def appears(value: str, text: str) -> bool:
    """Whether a value stands in a rendered text: as it is, trimmed, escaped as in JSON, or with other white space."""
    bare = value.strip()
    if not bare or bare in text:
        return True
    if json.dumps(bare, ensure_ascii=False)[1:-1] in text or json.dumps(bare)[1:-1] in text:
        return True
    return "".join(bare.split()) in "".join(text.split())


def texts_before(rendering: Rendering, upto: int, *, names: bool) -> dict[Path, str]:
    """The texts that a prompt has to show; the reasoning of earlier turns is none, models drop it in serving too.

    Args:
        rendering: the conversation.
        upto: number of messages in the prompt.
        names: also the names of speakers, which apps send whether a template writes them or not. The name in a tool's
            result is its call's and is none of them.
    """
    found: dict[Path, str] = {}
    for i, message in enumerate(rendering.messages[:upto]):
        found.update(_texts_of(i, message, reasoning=False))
        if names and message.role != "tool" and message.name.strip():
            found[i, "name"] = message.name
    for n, tool in enumerate(rendering.tools or ()):
        for field in ("name", "description"):
            if isinstance(tool["function"].get(field), str):
                found["tools", n, "function", field] = tool["function"][field]
    return found


def texts_of_turn(rendering: Rendering, index: int) -> dict[Path, str]:
    """The texts that the loss of a turn has to cover."""
    return _texts_of(index, rendering.messages[index], reasoning=True)


def _texts_of(i: int, message: Spoken, *, reasoning: bool) -> dict[Path, str]:
    found: dict[Path, str] = {(i, "content"): message.content}
    if reasoning:
        found[i, "reasoning"] = message.reasoning
    for n, call in enumerate(message.calls):
        found[i, "calls", n, "name"] = call.name
        found.update(_leaves((i, "calls", n, "arguments"), call.text if call.arguments is None else call.arguments))
    return {path: text for path, text in found.items() if text.strip()}


def _leaves(path: Path, value: Any) -> dict[Path, str]:
    """The texts in the arguments of a call."""
    if isinstance(value, str):
        return {path: value}
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    found: dict[Path, str] = {}
    for key, item in items:
        found.update(_leaves((*path, key), item))
    return found


def unwritten(rendering: Rendering, index: int, shown: str) -> Iterator[Path]:
    """The names and numbers in the arguments of a turn's calls that are not in what is shown."""
    for n, call in enumerate(rendering.messages[index].calls):
        path = (index, "calls", n, "arguments")
        if any(not any(form in shown for form in forms) for forms in _names_and_numbers(call.arguments)):
            yield path


def _names_and_numbers(value: Any) -> Iterator[tuple[str, ...]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield key, json.dumps(key)[1:-1], json.dumps(key, ensure_ascii=False)[1:-1]
            yield from _names_and_numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _names_and_numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value), json.dumps(value)


def field_of(path: Path) -> str:
    """A path in the words of a row."""
    if path[0] == "tools":
        return f"tools[{path[1]}]" + ("" if path[3] == "name" else f".{path[3]}")
    where = f"messages[{path[0]}]"
    return f"{where}.{path[1]}" if path[1] != "calls" else f"{where}.tool_calls[{path[2]}].{path[3]}"


def _changed(rendering: Rendering, words: Mapping[Path, str]) -> Rendering:
    """The conversation with other words in the place of some of its texts."""
    messages, tools = list(rendering.messages), rendering.tools
    for path, word in words.items():
        if path[0] == "tools":
            tools = _put(tools, path[1:], word)
        elif path[1] == "calls":
            calls = list(messages[path[0]].calls)
            calls[path[2]] = _changed_call(calls[path[2]], path[3:], word)
            messages[path[0]] = replace(messages[path[0]], calls=tuple(calls))
        else:
            changes: dict[str, Any] = {path[1]: word}
            messages[path[0]] = replace(messages[path[0]], **changes)
    return rendering.with_changes(messages, tools)


def _changed_call(call: Call, path: Path, word: str) -> Call:
    if path[0] == "name":  # Kimi K2 writes it as a part of the id alone
        return replace(call, name=word, id=call.id.replace(call.name, word))
    if call.arguments is None:
        return replace(call, text=word)
    arguments = _put(call.arguments, path[1:], word)
    return replace(call, arguments=arguments, text=json.dumps(arguments, ensure_ascii=False))


def _put(value: Any, path: Path, word: str) -> Any:
    """A JSON value with a word at a place of it."""
    if not path:
        return word
    if isinstance(value, list):
        return [_put(item, path[1:], word) if i == path[0] else item for i, item in enumerate(value)]
    return {key: _put(item, path[1:], word) if key == path[0] else item for key, item in value.items()}
