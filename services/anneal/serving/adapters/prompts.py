"""Prompts of the domain as token ids, by the code that training renders with: what is served is what was trained."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anneal.kit.chat.conversation import ChatTemplate
from anneal.kit.chat.errors import ChatError
from anneal.kit.chat.options import ChatOptions, listed_stops, read_options
from anneal.kit.chat.reasoning import ReasoningSplitter
from anneal.kit.errors import Invalid
from anneal.serving.domain.answers import AdapterRef, ChatPrompt, Continuation, Prompt, TextPrompt

_MOST_TEMPLATES = 256
"""Adapters whose options are remembered; reading them again costs a small file."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt as the engine takes it.

    Attributes:
        ids: its tokens.
        stops: tokens that end the answer.
        splitter: tells reasoning from content in the answer; None where there is none to tell.
        keeps_special: the answer's text must show special tokens, since they stand around its reasoning.
    """

    ids: list[int]
    stops: tuple[int, ...] = ()
    splitter: ReasoningSplitter | None = None
    keeps_special: bool = False


class Prompts:
    """The chat template of one base, and of each of its adapters."""

    def __init__(self, base: Path, tokenizer: Any) -> None:
        """Read what stands beside the base's weights.

        Args:
            base: the base model's folder.
            tokenizer: its tokenizer, of transformers.
        """
        self._tokenizer = tokenizer
        self._options, self._stops = read_options(base), listed_stops(base)
        self._templates: OrderedDict[str, ChatTemplate] = OrderedDict()

    def render(self, prompt: Prompt, adapter: AdapterRef | None) -> Rendered:
        """Token ids of a prompt.

        Raises:
            Invalid: the chat template refuses the messages or leaves a part of them out, or there is none.
        """
        if isinstance(prompt, TextPrompt):
            return Rendered(self._template(adapter).text_ids(prompt.text))
        if not isinstance(prompt, ChatPrompt):
            return Rendered(list(prompt.ids))
        template = self._template(adapter)
        with _refusing():
            made = template.prompt(prompt.messages, prompt.tools)
        marks = template.reasoning_marks
        splitter = None if marks is None else ReasoningSplitter(marks, opened=made.opens_reasoning)
        keeps = template.marks_are_special
        return Rendered(made.token_ids, tuple(sorted(template.stop_ids)), splitter, keeps_special=keeps)

    def sequence(
        self, context: Prompt, continuation: Continuation, adapter: AdapterRef | None
    ) -> tuple[list[int], int]:
        """Token ids of context and continuation as training has them, and how many are context.

        After messages a text is the assistant's whole turn, its stop token with it. After a text both are tokenized as
        one; where a token holds characters of both, it counts as continuation.
        """
        if continuation.ids:
            before = self.render(context, adapter).ids
            return [*before, *continuation.ids], len(before)
        if isinstance(context, ChatPrompt):
            answered = [*context.messages, {"role": "assistant", "content": continuation.text}]
            template = self._template(adapter)
            strict = not template.options.allows_left_out
            with _refusing():
                turn = template.turn(answered, len(answered) - 1, context.tools, strict=strict)
            return [*turn.prompt_ids, *turn.target_ids], len(turn.prompt_ids)
        if isinstance(context, TextPrompt):
            template = self._template(adapter)
            before, whole = template.text_ids(context.text), template.text_ids(context.text + continuation.text)
            shared = next((i for i, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), None)
            return whole, min(len(before), len(whole)) if shared is None else shared
        return list(context.ids), 0

    def _template(self, adapter: AdapterRef | None) -> ChatTemplate:
        key = "" if adapter is None else adapter.digest
        if key not in self._templates:
            own = ChatOptions() if adapter is None else read_options(Path(adapter.path))
            self._templates[key] = ChatTemplate(self._tokenizer, own.over(self._options), stops=self._stops)
            while len(self._templates) > _MOST_TEMPLATES:
                self._templates.popitem(last=False)
        self._templates.move_to_end(key)
        return self._templates[key]


@contextmanager
def _refusing() -> Iterator[None]:
    """A chat template's refusals as those of the request."""
    try:
        yield
    except ChatError as error:
        field = error.field or "messages"
        raise Invalid.field("tools_json" if field.startswith("tools") else field, str(error)) from error
