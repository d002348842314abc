"""Finds out in which form a chat template wants its messages, by asking it to render some."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

from anneal.kit.chat.errors import ChatError
from anneal.kit.chat.messages import Call, Form, Spoken

_TEXT, _NAME, _KEY, _VALUE, _THOUGHT = "probetext", "probename", "probekey", "probevalue", "probethought"
_USER = Spoken("user", _TEXT)
_CALL = Call(_NAME, {_KEY: _VALUE}, f'{{"{_KEY}": "{_VALUE}"}}', "call00001")
_CALLS = Spoken("assistant", calls=(_CALL,))
_THINKS = Spoken("assistant", "probeanswer", reasoning=_THOUGHT)
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "probe",
        "parameters": {"type": "object", "properties": {_KEY: {"type": "string", "description": "probe"}}},
    },
}


class Render(Protocol):
    """What renders messages."""

    def __call__(self, messages: list[dict[str, Any]], tools: Any, *, prompt: bool) -> str:
        """The text of messages."""


def best_form(render: Render) -> Form:
    """The first form of each kind in which everything is rendered; the usual one where none does it."""

    def text(form: Form, *messages: Spoken, tools: Any = None) -> str:
        try:
            return render([message.in_form(form) for message in messages], tools, prompt=False)
        except ChatError:
            return ""

    def first(forms: Iterator[Form], good: Callable[[Form], bool], usual: Form) -> Form:
        return next((form for form in forms if good(form)), usual)

    form = first((Form(parts=parts) for parts in (False, True)), lambda f: _TEXT in text(f, _USER), Form())
    usual = form
    kinds = [(none, as_text) for none in (False, True) for as_text in (False, True)]
    form = first(
        (replace(usual, arguments_as_text=as_text, nothing_as_none=none) for none, as_text in kinds),
        lambda f: any(_calls_well(text(f, _USER, _CALLS, tools=tools)) for tools in (None, [_TOOL])),
        usual,
    )
    names = [form.reasoning_fields, *((name,) for name in form.reasoning_fields)]
    return first(
        (replace(form, reasoning_fields=some) for some in names),
        lambda f: text(f, _USER, _THINKS).count(_THOUGHT) == 1,
        form,
    )


def _calls_well(text: str) -> bool:
    """Whether a call is there, with its arguments as they are and not as Python writes a mapping."""
    return all(part in text for part in (_NAME, _KEY, _VALUE)) and repr(_CALL.arguments) not in text
