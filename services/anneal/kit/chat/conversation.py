"""A model's chat template: from messages to the token ids that serving sends and training learns.

One definition, in tokens. For each turn of the assistant that is learned, the prompt (the messages before it with the
generation prompt, as serving renders them) is the beginning of what is trained, and the loss covers exactly what the
model must write from there to the end of its turn: reasoning, content and tool calls as the row has them, and the stop
token. Nothing here looks at `{% generation %}` marks or at a finished conversation alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from anneal.kit.chat.control import TextEncoder
from anneal.kit.chat.errors import ChatError, LeftOut, NoStop, NoTemplate, NothingToLearn, TemplateRewrites
from anneal.kit.chat.left_out import check_prompt, check_turn
from anneal.kit.chat.messages import REASONING_MARKS, Message, parse_tools
from anneal.kit.chat.options import ChatOptions
from anneal.kit.chat.reasoning import Marks, marks_of
from anneal.kit.chat.rendering import Rendering, TemplateText, appears

_EMPTY_THOUGHT = re.compile(
    r"\s*(?:" + "|".join(rf"{re.escape(a)}\s*{re.escape(b)}" for a, b in REASONING_MARKS) + r")\s*"
)
_PROBE, _NEXT = "probe", "further"


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
            NoTemplate: the tokenizer is not a fast one, so that texts cannot be mapped to tokens.
        """
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise NoTemplate("the tokenizer is not a fast one (tokenizer.json), and only those are used")
        self.options = options or ChatOptions()
        self.encoder = TextEncoder(tokenizer)
        self._tokenizer = tokenizer
        eos = tokenizer.eos_token_id
        self._eos = eos if isinstance(eos, int) else None
        known = {*stops, *self.options.stop_token_ids}
        self._named = frozenset(known | ({self._eos} if self._eos is not None else set()))

    @cached_property
    def template(self) -> TemplateText:
        """The chat template.

        Raises:
            NoTemplate: there is none.
        """
        return TemplateText(self._tokenizer, self.encoder, self.options.template_kwargs)

    @property
    def has_template(self) -> bool:
        """Whether conversations can be rendered."""
        try:
            return bool(self.template)
        except NoTemplate:
            return False

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Every token that ends a turn: of the tokenizer, of the generation configuration, the template's own."""
        if not self.has_template:
            return self._named
        return self._named | self._ends_of_turn()

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
        rendering = Rendering(self.template, messages, parse_tools(tools))
        text = rendering.text(len(messages), prompt=True)
        if strict and not self.options.allows_left_out:
            field = next(check_prompt(rendering, len(messages), text), None)
            if field is not None:
                raise LeftOut(f"the model's chat template does not render {field}", field=field)
        return ChatPromptIds(self.encoder.encode(text, rendering.guarded), _opened(text) is not None)

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
        spelled = {self.encoder.control[i] for i in self.encoder.special}
        return any(mark in spelled for mark in (marks.begin, marks.end)) or "<|channel|>" in spelled

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
        if index == 0:
            raise NothingToLearn(
                "the conversation begins with the assistant, and no app can ask for such an answer: put a message "
                "before it, or give the turn the weight 0",
                field="messages[0]",
            )
        rendering = Rendering(self.template, messages, parse_tools(tools))
        prompt = rendering.text(index, prompt=True)
        target, appended = self._target(rendering, index, prompt)
        left_out = [*check_prompt(rendering, index, prompt), *check_turn(rendering, index, target)]
        if left_out and strict:
            raise LeftOut(
                f"the model's chat template does not render {left_out[0]}, so the model would learn to answer without "
                "having seen it: choose another template, take it out of the row, or allow that it is left out",
                field=left_out[0],
            )
        prompt_ids = self.encoder.encode(prompt, rendering.guarded)
        whole = self.encoder.encode(prompt + target, rendering.guarded)
        if whole[: len(prompt_ids)] == prompt_ids:
            target_ids = whole[len(prompt_ids) :]
        else:  # a token would hold characters of both; serving's prompt ends before it, so the answer begins there
            target_ids = self.encoder.encode_after(target, rendering.guarded)
        return Turn(index, prompt_ids, [*target_ids, *appended], tuple(left_out))

    def _target(self, rendering: Rendering, index: int, prompt: str) -> tuple[str, list[int]]:
        """What must be written after the prompt, up to the stop token; and that token, where the text has none."""
        message = rendering.messages[index]
        finished = rendering.text(index + 1, prompt=False)
        tail = _tail(prompt, finished, index)
        reasoning, content = message.get("reasoning", ""), message["content"].strip()
        if not reasoning:
            empty = _EMPTY_THOUGHT.match(tail)
            if empty is not None and not appears(empty[0], content):
                tail = tail[empty.end() :]
        elif not appears(reasoning, tail):
            tail = self._with_reasoning(prompt, tail, reasoning)
        found = tail.rfind(content) if content else -1
        end = self._end_of_turn(tail, found + len(content) if found >= 0 else 0)
        if end is not None:
            return tail[:end], []
        return tail.rstrip(), [self._appended_stop(rendering, index, content)]

    def _end_of_turn(self, tail: str, least: int) -> int | None:
        """Where the first stop token of a turn ends; None when it has none.

        Raises:
            TemplateRewrites: it stands before place `least`, where the content ends.
        """
        spelled = sorted(self._stop_spellings, key=len, reverse=True)
        if not spelled:
            return None
        first = re.search("|".join(map(re.escape, spelled)), tail)
        if first is None:
            return None
        if first.start() < least:
            raise TemplateRewrites(
                f"the template writes {first[0]}, which ends an answer, before the end of the assistant's turn",
                field="messages",
            )
        return first.end()

    @cached_property
    def _stop_spellings(self) -> frozenset[str]:
        return frozenset(self.encoder.control[i] for i in self.stop_ids if i in self.encoder.control)

    def _with_reasoning(self, prompt: str, tail: str, reasoning: str) -> str:
        """A turn whose reasoning the template drops from finished turns, as the model writes it all the same."""
        opened = _opened(prompt)
        marks = opened or next((m for m in REASONING_MARKS if m[1] in self.template.source), None)
        if marks is None:
            return tail
        empty = _EMPTY_THOUGHT.match(tail)
        rest = tail[empty.end() :] if empty is not None else tail
        closing = re.match(rf"\s*{re.escape(marks[1])}\s*", rest)
        rest = rest[closing.end() :] if closing is not None else rest
        begin = "" if opened else f"{marks[0]}\n"
        return f"{begin}{reasoning}\n{marks[1]}\n\n{rest.lstrip()}"

    def _appended_stop(self, rendering: Rendering, index: int, content: str) -> int:
        """The stop token of a template that writes none: what the next turn begins with, if that ends one, else EOS."""
        role = "user" if index == 0 or rendering.messages[index - 1]["role"] != "tool" else "tool"
        try:
            messages = [*rendering.messages[: index + 1], {"role": role, "content": _NEXT}]
            longer = self.template.render([dict(m) for m in messages], rendering.tools, prompt=False)
            begin = longer.rfind(content) + len(content) if content else 0
            between = self.encoder.encode(longer[begin : longer.rfind(_NEXT)], rendering.guarded)
            if between and between[0] in self.stop_ids:
                return between[0]
        except ChatError:
            pass
        if self._eos is not None:
            return self._eos
        if self._named:
            return min(self._named)
        raise NoStop("nothing ends a turn: the template writes no stop token, and the tokenizer has no EOS token")

    def _ends_of_turn(self) -> frozenset[int]:
        """The control token that the template writes after an answer, and after a call of tools."""
        found: set[int] = set()
        question = {"role": "user", "content": _NEXT}
        calls = [{"name": _PROBE, "arguments": "{}", "id": "call00001"} for _ in range(2)]
        for answer in ({"role": "assistant", "content": _PROBE}, {"role": "assistant", "tool_calls": calls}):
            rendering = Rendering(self.template, [question, answer], None)
            try:
                text = rendering.text(2, prompt=False)
            except ChatError:
                continue
            after = self.encoder.encode(text[text.rfind(_PROBE) + len(_PROBE) :])
            ids = [i for i in after if i in self.encoder.special]
            if "tool_calls" not in answer:
                found.update(ids[:1])
            elif ids and text.count(self.encoder.control[ids[-1]]) == 1:
                found.add(ids[-1])
        return frozenset(found)


def _opened(prompt: str) -> tuple[str, str] | None:
    """The marks of reasoning that a prompt's end has opened."""
    bare = prompt.rstrip()
    return next((marks for marks in REASONING_MARKS if bare.endswith(marks[0])), None)


def _tail(prompt: str, finished: str, index: int) -> str:
    """What a finished turn says after its generation prompt."""
    if finished.startswith(prompt):
        return finished[len(prompt) :]
    shared = next((i for i, (a, b) in enumerate(zip(prompt, finished, strict=False)) if a != b), len(finished))
    rest, said = prompt[shared:], finished[shared:]
    opened = _opened(rest)
    if opened is not None:
        # The generation prompt opens the reasoning and finished turns do not show it: the model closes it first.
        return said if opened[1] in said else f"\n{opened[1]}\n\n{said.lstrip()}"
    if _EMPTY_THOUGHT.fullmatch(rest):
        return said.lstrip()
    if not rest.strip():
        return said
    raise TemplateRewrites(
        f"the chat template writes turn {index} otherwise than its generation prompt begins it (after "
        f"{prompt[max(0, shared - 30) : shared]!r} the prompt goes on with {rest[:40]!r})",
        field=f"messages[{index}]",
    )


__all__ = ["ChatTemplate", "Turn"]
