"""A model's chat template: from messages to the token ids that serving sends and training learns.

One definition, in tokens. For each turn of the assistant that is learned, the prompt (the messages before it with the
generation prompt, as serving renders them) is the beginning of what is trained, and the loss covers exactly what the
model must write from there to the end of its turn: reasoning, content and tool calls as the row has them, and the stop
token. Nothing here looks at `{% generation %}` marks or at a finished conversation alone.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from anneal.kit.chat import left_out
from anneal.kit.chat.answers import Answers
from anneal.kit.chat.control import encoder_of
from anneal.kit.chat.errors import ChatTemplateMissing, LeftOut, NothingToLearn
from anneal.kit.chat.messages import Message
from anneal.kit.chat.options import ChatOptions
from anneal.kit.chat.reasoning import Marks, marks_of, opened
from anneal.kit.chat.rendering import Rendering, TemplateText

_MOST_SHAPES = 4096
"""Shapes of conversations of which is remembered what the template does not render."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that is learned.

    Attributes:
        index: its place among the messages.
        prompt_ids: what serving sends to have it written.
        target_ids: what the model must write, its stop token last.
        left_out: fields of the row that the template does not render, where that was allowed.
    """

    index: int
    prompt_ids: list[int]
    target_ids: list[int]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatPromptIds:
    """A prompt as serving sends it, and whether its end opens a block of reasoning."""

    token_ids: list[int]
    opens_reasoning: bool


class ChatTemplate:
    """The chat template of one base model, with its stop tokens."""

    def __init__(self, tokenizer: Any, options: ChatOptions | None = None, *, stops: Sequence[int] = ()) -> None:
        """Look at the tokenizer.

        Args:
            tokenizer: of transformers, a fast one.
            options: variables of the template, further stop tokens.
            stops: the stop tokens that the model's generation configuration names.

        Raises:
            ChatTemplateMissing: the tokenizer is not a fast one, so that texts cannot be mapped to tokens.
        """
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise ChatTemplateMissing("the tokenizer is not a fast one (tokenizer.json), and only those are used")
        self.options = options or ChatOptions()
        self.encoder = encoder_of(tokenizer)
        self._tokenizer = tokenizer
        eos = tokenizer.eos_token_id
        self._eos = eos if isinstance(eos, int) else None
        known = {*stops, *self.options.stop_token_ids}
        self._named = frozenset(known | ({self._eos} if self._eos is not None else set()))
        self._unseen: OrderedDict[Any, frozenset[left_out.Path]] = OrderedDict()

    @cached_property
    def template(self) -> TemplateText:
        """The chat template.

        Raises:
            ChatError: there is none, or its variables are wrong.
        """
        return TemplateText(self._tokenizer, self.encoder, self.options.template_kwargs, self._named)

    @cached_property
    def _answers(self) -> Answers:
        return Answers(self.template, self._named, self._eos)

    @property
    def has_template(self) -> bool:
        """Whether conversations can be rendered."""
        try:
            return bool(self.template)
        except ChatTemplateMissing:
            return False

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Every token that ends a turn: of the tokenizer, of the generation configuration, the template's own."""
        return self._answers.stop_ids if self.has_template else self._named

    def to_json(self) -> dict[str, Any]:
        """What an adapter that was trained by this template keeps of it, as `options.read_options` reads it."""
        return {
            "template_kwargs": dict(self.options.template_kwargs),
            "stop_token_ids": sorted(self.stop_ids),
            "allows_left_out": self.options.allows_left_out,
            "chat_template_digest": "sha256:" + hashlib.sha256(self.template.source.encode()).hexdigest(),
        }

    def text_ids(self, text: str) -> list[int]:
        """Token ids of a raw text, with the beginning that the tokenizer gives it (BOS)."""
        return self.encoder.encode_text(text)

    def prompt_ids(self, messages: Sequence[Message], tools: Any = None) -> list[int]:
        """What serving sends for the next turn of the assistant.

        Args:
            messages: `{role, content, ...}` as rows have them.
            tools: JSON text or a list of tools; None for none.

        Raises:
            ChatError: the template refuses them, or there is no template.
        """
        return self.prompt(messages, tools, strict=False).token_ids

    def prompt(self, messages: Sequence[Message], tools: Any = None, *, strict: bool = True) -> ChatPromptIds:
        """What serving sends for the next turn of the assistant, and what it has to know of it.

        Args:
            messages: `{role, content, ...}` as rows have them.
            tools: JSON text or a list of tools; None for none.
            strict: refuse what the template leaves out.

        Raises:
            ChatError: the template refuses them or leaves a part of them out, or there is no template.
        """
        rendering = Rendering(self.template, messages, tools)
        text = rendering.text(len(messages), prompt=True)
        if strict and not self.options.allows_left_out:
            field = next(iter(self._left_out_of_prompt(rendering, len(messages), text, names=False)), None)
            if field is not None:
                raise LeftOut(f"the model's chat template does not render {field}", field=field)
        return ChatPromptIds(rendering.ids(text), opened(text) is not None)

    @cached_property
    def reasoning_marks(self) -> Marks | None:
        """What this family writes around reasoning; None where the template knows none."""
        return marks_of(self.template.source)

    @cached_property
    def marks_are_special(self) -> bool:
        """Whether a decoder that leaves special tokens out would leave the marks of reasoning out, too."""
        marks = self.reasoning_marks
        if marks is None:
            return False
        written = f"{marks.begin}{marks.end}{marks.next}"
        return any(i in self.encoder.special for i in self.encoder.encode(written))

    def conversation(self, messages: Sequence[Message], tools: Any = None) -> Conversation:
        """A conversation whose turns are learned; several of them are cheaper than each for itself.

        Args:
            messages: the conversation.
            tools: JSON text or a list of tools; None for none.

        Raises:
            ChatError: the messages or tools are none, or there is no template.
        """
        return Conversation(self, Rendering(self.template, messages, tools))

    def turn(self, messages: Sequence[Message], index: int, tools: Any = None, *, strict: bool = True) -> Turn:
        """A turn of the assistant as it is learned.

        Args:
            messages: the conversation.
            index: place of the turn.
            tools: JSON text or a list of tools; None for none.
            strict: refuse what the template leaves out; else it is named in the turn.

        Raises:
            ChatError: the turn cannot be learned; see the subclasses.
        """
        return self.conversation(messages[: index + 1], tools).turn(index, strict=strict)

    def _left_out_of_prompt(self, rendering: Rendering, upto: int, prompt: str, *, names: bool) -> list[str]:
        texts = left_out.texts_before(rendering, upto, names=names)
        return self._left_out(rendering, texts, prompt, upto, lambda some: some.text(upto, prompt=True))

    def _left_out_of_turn(self, rendering: Rendering, index: int, target: str) -> list[str]:
        def show(some: Rendering) -> str:
            return self._answers.target(some, index, some.text(index, prompt=True))[0]

        texts = left_out.texts_of_turn(rendering, index)
        found = self._left_out(rendering, texts, target, -index, show)
        return [*found, *map(left_out.field_of, left_out.unwritten(rendering, index, target))]

    def _left_out(
        self, rendering: Rendering, texts: dict[left_out.Path, str], shown: str, what: int, show: left_out.Show
    ) -> list[str]:
        key = what, tuple(texts), left_out.shape_of_conversation(rendering, abs(what) + 1)
        if key not in self._unseen:
            self._unseen[key] = left_out.unseen_in_shape(rendering, list(texts), show)
            while len(self._unseen) > _MOST_SHAPES:
                self._unseen.popitem(last=False)
        unseen = {*self._unseen[key], *left_out.unseen(rendering, texts, shown, show)}
        return list(dict.fromkeys(left_out.field_of(path) for path in texts if path in unseen))


class Conversation:
    """A conversation whose turns are learned."""

    def __init__(self, template: ChatTemplate, rendering: Rendering) -> None:
        """Take what `ChatTemplate.conversation` made."""
        self._of, self._rendering = template, rendering

    def turn(self, index: int, *, strict: bool = True) -> Turn:
        """A turn of the assistant as it is learned.

        Args:
            index: place of the turn among the messages.
            strict: refuse what the template leaves out; else it is named in the turn.

        Raises:
            ChatError: the turn cannot be learned; see the subclasses.
        """
        if index == 0:
            raise NothingToLearn(
                "the conversation begins with the assistant, and no app can ask for such an answer: put a message "
                "before it, or give the turn the weight 0",
                field="messages[0]",
            )
        rendering = self._rendering
        prompt = rendering.text(index, prompt=True)
        target, appended = self._of._answers.target(rendering, index, prompt)
        missing = [
            *self._of._left_out_of_prompt(rendering, index, prompt, names=True),
            *self._of._left_out_of_turn(rendering, index, target),
        ]
        if missing and strict:
            raise LeftOut(
                f"the model's chat template does not render {missing[0]}, so the model would learn to answer without "
                "having seen it: choose another template, take it out of the row, or allow that it is left out",
                field=missing[0],
            )
        prompt_ids = rendering.ids(prompt)
        return Turn(index, prompt_ids, [*self._target_ids(prompt, prompt_ids, target), *appended], tuple(missing))

    def _target_ids(self, prompt: str, prompt_ids: list[int], target: str) -> list[int]:
        """The tokens of what is written after a prompt; where one would hold characters of both, it begins anew."""
        encoder, guarded = self._rendering.template.encoder, self._rendering.guarded
        if not (target[:1].isspace() and encoder.swallows(prompt)):
            whole = encoder.encode(prompt + target, guarded)
            if whole[: len(prompt_ids)] == prompt_ids:
                return whole[len(prompt_ids) :]
        return encoder.encode_after(target, guarded)


__all__ = ["ChatTemplate", "Conversation", "Turn"]
