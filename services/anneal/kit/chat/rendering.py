"""Renders messages to text by a model's own Jinja template, the same way for training and for serving."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from anneal.kit.chat.control import Guarded, TextEncoder
from anneal.kit.chat.errors import ChatTemplateMissing, Malformed, TemplateRefuses
from anneal.kit.chat.forms import best_form
from anneal.kit.chat.messages import Call, Form, Message, Spoken, parse_tools, spoken
from anneal.kit.chat.reasoning import TAGS

DATE = "date"
"""Name of the template variable that says which day it is: `YYYY-MM-DD`, or `today`."""
FIXED_DATE = "2024-07-26"
"""The day of a template that asks for one and is told none; what Llama 3 writes where it cannot know."""
_ASKS_FIRST = re.compile(r"strftime_now\s+is\s+(not\s+)?defined")
_RESERVED = frozenset(
    [
        "messages",
        "conversation",
        "tools",
        "documents",
        "chat_template",
        "add_generation_prompt",
        "tokenize",
        "padding",
        "continue_final_message",
        "truncation",
        "max_length",
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
        "tokenizer_kwargs",
        "processor_kwargs",
        "strftime_now",
        "raise_exception",
    ]
)
"""Names that mean something else than a variable of the template."""


class TemplateText:
    """A compiled chat template with its variables."""

    def __init__(self, tokenizer: Any, encoder: TextEncoder, kwargs: Mapping[str, Any], stops: Iterable[int]) -> None:
        """Look at the tokenizer's template.

        Args:
            tokenizer: of transformers.
            encoder: of the tokenizer.
            kwargs: variables of the template.
            stops: tokens that are known to end a turn.

        Raises:
            ChatTemplateMissing: the tokenizer has none, or several and none is chosen.
            Malformed: a variable is none that a template may have.
        """
        template = tokenizer.chat_template
        if isinstance(template, Mapping):
            raise ChatTemplateMissing(
                f"the tokenizer has several chat templates ({', '.join(sorted(template))}), and none is chosen: import "
                "the model with one of them"
            )
        if not isinstance(template, str) or not template.strip():
            raise ChatTemplateMissing(
                "the model has no chat template: import it with one to train and serve conversations"
            )
        for name in kwargs:
            if name in _RESERVED:
                raise Malformed(f"{name} is no variable of a chat template", field="template_kwargs")
        self._tokenizer, self.source, self.encoder, self._stops = tokenizer, template, encoder, frozenset(stops)
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
        try:
            fixed = datetime.datetime.fromisoformat(str(day or FIXED_DATE))
        except ValueError:
            raise Malformed(f"the date {day!r} is neither YYYY-MM-DD nor today", field="template_kwargs.date") from None
        return {"strftime_now": fixed.strftime}

    @cached_property
    def form(self) -> Form:
        """How the template wants its messages."""
        return best_form(self.render)

    @cached_property
    def control_of_answers(self) -> re.Pattern[str]:
        """What is hidden in the assistant's own texts: special tokens, stops, what stands around turns and reasoning.

        Other added tokens, such as `<tool_call>`, are how the model writes such text. A row's reasoning is told from
        its content before; templates that look for its marks would find those that the content only speaks of.
        """
        encoder = self.encoder
        try:
            around = encoder.encode(self.render([Spoken("user", "a").in_form(self.form)], None, prompt=True))
        except TemplateRefuses:
            around = []
        marks = [mark for m in TAGS for mark in (m.begin, m.end) if mark in self.source]
        return encoder.only({*encoder.special, *self._stops, *(i for i in around if i in encoder.control)}, marks)

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


class Rendering:
    """One conversation on its way through the template: its messages made safe."""

    def __init__(self, template: TemplateText, messages: Sequence[Message], tools: Any) -> None:
        """Make a conversation safe.

        Args:
            template: what renders it.
            messages: as rows have them.
            tools: JSON text or a list of tools; None for none.

        Raises:
            Malformed: the messages or tools are none.
        """
        self.template = template
        self.guarded: Guarded = template.encoder.guard()
        self.messages = [self._safe(spoken(message, i)) for i, message in enumerate(messages)]
        parsed = parse_tools(tools)
        self.tools: list[dict[str, Any]] | None = None if parsed is None else self.guarded.hide(parsed)

    def _safe(self, message: Spoken) -> Spoken:
        hide, spelled = self.guarded.hide, None
        if message.role == "assistant":
            spelled = self.template.control_of_answers
        return replace(
            message,
            role=hide(message.role),
            content=hide(message.content, spelled),
            reasoning=hide(message.reasoning),
            calls=tuple(self._safe_call(call, spelled) for call in message.calls),
            name=hide(message.name),
            tool_call_id=hide(message.tool_call_id),
        )

    def _safe_call(self, call: Call, spelled: re.Pattern[str] | None) -> Call:
        hide = self.guarded.hide
        return Call(hide(call.name), hide(call.arguments, spelled), hide(call.text, spelled), hide(call.id))

    def with_changes(self, messages: Sequence[Spoken], tools: list[dict[str, Any]] | None) -> Rendering:
        """The same conversation with other messages and tools in the place of its own; they are safe already."""
        made = object.__new__(Rendering)
        made.template, made.guarded, made.messages, made.tools = self.template, self.guarded, list(messages), tools
        return made

    def text(self, upto: int, *, prompt: bool) -> str:
        """The text of the first messages.

        Args:
            upto: how many messages.
            prompt: with the generation prompt behind them: what serving sends for the next turn.

        Raises:
            TemplateRefuses: the template raises.
        """
        if upto == 0:
            raise TemplateRefuses("there are no messages", field="messages")
        messages = [message.in_form(self.template.form) for message in self.messages[:upto]]
        return self.guarded.unescape(self.template.render(messages, self.tools, prompt=prompt))

    def ids(self, text: str) -> list[int]:
        """Token ids of a rendered text."""
        return self.template.encoder.encode(text, self.guarded)


__all__ = ["DATE", "FIXED_DATE", "Rendering", "TemplateText"]
