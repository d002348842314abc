"""Renders messages to text by a model's own Jinja template, the same way for training and for serving."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any

from anneal.kit.chat.control import Guarded, TextEncoder
from anneal.kit.chat.errors import ChatError, NoTemplate, TemplateRefuses
from anneal.kit.chat.messages import Message, to_template

DATE = "date"
"""Name of the template variable that says which day it is: `YYYY-MM-DD`, or `today`."""
FIXED_DATE = "2024-07-26"
"""The day of a template that asks for one and is told none; what Llama 3 writes where it cannot know."""
_ASKS_FIRST = re.compile(r"strftime_now\s+is\s+(not\s+)?defined")


class Rendering:
    """One conversation on its way through the template: its messages made safe, and what they were."""

    def __init__(self, template: TemplateText, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None):
        self._template = template
        self.guarded = template.encoder.guard()
        self.messages, self._messages_as_text = (
            [self._safe(message) for message in to_template(messages, arguments_as_text=as_text)]
            for as_text in (False, True)
        )
        self.tools = None if tools is None else [self.guarded.hide(tool) for tool in tools]

    def _safe(self, message: dict[str, Any]) -> dict[str, Any]:
        role = message.pop("role")
        spelled = self._template.encoder.special_only if role == "assistant" else None
        return {"role": role, **{field: self.guarded.hide(value, spelled) for field, value in message.items()}}

    def text(self, upto: int, *, prompt: bool, changed: Mapping[int, Mapping[str, Any]] | None = None) -> str:
        """The text of the first messages.

        Args:
            upto: how many messages.
            prompt: with the generation prompt behind them: what serving sends for the next turn.
            changed: messages to put in the place of those with these numbers.

        Raises:
            TemplateRefuses: the template raises.
        """
        return self._text(upto, self.tools, prompt=prompt, changed=changed or {})

    def _text(self, upto: int, tools: Any, *, prompt: bool, changed: Mapping[int, Mapping[str, Any]]) -> str:
        failed: ChatError | None = None
        for messages in (self.messages, self._messages_as_text):
            some = [dict(changed.get(i, message)) for i, message in enumerate(messages[:upto])]
            try:
                return self._template.render(some, tools, prompt=prompt)
            except TemplateRefuses as error:
                failed = failed or error
                if not any("tool_calls" in message for message in some):
                    break
        raise failed or TemplateRefuses("there are no messages", field="messages")

    def with_tools(self, upto: int, tools: Sequence[Mapping[str, Any]]) -> str:
        """The prompt as it would be with other tools."""
        return self._text(upto, list(tools), prompt=True, changed={})


class TemplateText:
    """A compiled chat template with its variables."""

    def __init__(self, tokenizer: Any, encoder: TextEncoder, kwargs: Mapping[str, Any]) -> None:
        """Look at the tokenizer's template.

        Raises:
            NoTemplate: the tokenizer has none, or several and none is chosen.
        """
        template = tokenizer.chat_template
        if isinstance(template, Mapping):
            raise NoTemplate(
                f"the tokenizer has several chat templates ({', '.join(sorted(template))}), and none is chosen: import "
                "the model with one of them"
            )
        if not isinstance(template, str) or not template.strip():
            raise NoTemplate("the model has no chat template: import it with one to train and serve conversations")
        self._tokenizer, self.source, self.encoder = tokenizer, template, encoder
        self._variables = {**kwargs, **self._clock(kwargs)}
        self._variables.pop(DATE, None)

    def _clock(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """What `strftime_now` is to the template: no clock, unless the day of today is asked for."""
        import jinja2

        day = kwargs.get(DATE)
        if day is None and _ASKS_FIRST.search(self.source):
            return {"strftime_now": jinja2.Undefined()}
        if day == "today":
            return {}
        fixed = datetime.datetime.fromisoformat(str(day or FIXED_DATE))
        return {"strftime_now": fixed.strftime}

    def render(self, messages: list[dict[str, Any]], tools: Any, *, prompt: bool) -> str:
        """The text of messages.

        Raises:
            TemplateRefuses: the template raises, whatever it raises: it is not our code.
        """
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages, tools=tools, tokenize=False, add_generation_prompt=prompt, **self._variables
                )
            )
        except Exception as error:
            why = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
            raise TemplateRefuses(f"the model's chat template refuses it: {why}", field="messages") from error


def appears(value: str, text: str) -> bool:
    """Whether a value stands in a rendered text: as it is, trimmed, with other white space, or escaped as in JSON."""
    import json

    bare = value.strip()
    if not bare or bare in text:
        return True
    if json.dumps(bare, ensure_ascii=False)[1:-1] in text or json.dumps(bare)[1:-1] in text:
        return True
    return "".join(bare.split()) in "".join(text.split())


__all__ = ["DATE", "FIXED_DATE", "Guarded", "Rendering", "TemplateText", "appears"]
