"""What a turn of the assistant has to say after its prompt, and which token ends it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

from anneal.kit.chat.errors import ChatError, NoStop, TemplateRewrites
from anneal.kit.chat.left_out import appears
from anneal.kit.chat.messages import Call, Spoken
from anneal.kit.chat.reasoning import EMPTY, TAGS, closed, opened
from anneal.kit.chat.rendering import Rendering, TemplateText

_PROBE, _NEXT, _RESULT = "probe", "further", "outcome"
_CALL = Call(_PROBE, {}, "{}", "call00001")
_TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": _PROBE, "description": _RESULT, "parameters": {}}}
]


class Answers:
    """The finished turns of one chat template."""

    def __init__(self, template: TemplateText, named: frozenset[int], eos: int | None) -> None:
        """Take a template and the stop tokens that tokenizer and generation configuration name."""
        self._template, self._encoder, self._named, self._eos = template, template.encoder, named, eos

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Every token that ends a turn: those that are named, and the template's own."""
        return self._named | set(self._after_answers()) | set(self._after_calls())

    def target(self, rendering: Rendering, index: int, prompt: str) -> tuple[str, list[int]]:
        """What must be written after the prompt, up to the stop token; and that token, where the text has none.

        Raises:
            ChatError: the template refuses the turn, or writes it otherwise than the prompt begins it.
        """
        message = rendering.messages[index]
        finished = rendering.text(index + 1, prompt=False)
        if message.reasoning and closed(prompt) is not None:
            raise TemplateRewrites(
                "the turn has reasoning, and the generation prompt says that there is none: let the template think "
                "(such as enable_thinking), or take the reasoning out of the row",
                field=f"messages[{index}].reasoning",
            )
        tail = _tail(prompt, finished, index)
        content = message.content.strip()
        if not message.reasoning:
            empty = EMPTY.match(tail)
            if empty is not None and not appears(empty[0], content):
                tail = tail[empty.end() :]
        elif not appears(message.reasoning, tail):
            tail = self._with_reasoning(prompt, tail, message.reasoning)
        found = tail.rfind(content) if content else -1
        end = self._end_of_turn(tail, found + len(content) if found >= 0 else 0)
        if end is not None:
            return tail[:end], []
        return tail.rstrip(), [self._appended_stop(rendering, index)]

    def _end_of_turn(self, tail: str, least: int) -> int | None:
        """Where the first stop token of a turn ends; None when it has none.

        Raises:
            TemplateRewrites: it stands before place `least`, where the content ends.
        """
        first = self._stop_pattern.search(tail)
        if first is None:
            return None
        if first.start() < least:
            raise TemplateRewrites(
                f"the template writes {first[0]}, which ends an answer, before the end of the assistant's turn",
                field="messages",
            )
        return first.end()

    @cached_property
    def _stop_pattern(self) -> re.Pattern[str]:
        spelled = {self._encoder.control[i] for i in self.stop_ids if i in self._encoder.control}
        return re.compile("|".join(map(re.escape, sorted(spelled, key=len, reverse=True))) or r"(?!)")

    def _with_reasoning(self, prompt: str, tail: str, reasoning: str) -> str:
        """A turn whose reasoning the template drops from finished turns, as the model writes it all the same."""
        begun = opened(prompt)
        marks = begun or next((m for m in TAGS if m.end in self._template.source), None)
        if marks is None:
            return tail
        empty = EMPTY.match(tail)
        rest = tail[empty.end() :] if empty is not None else tail
        closing = re.match(rf"\s*{re.escape(marks.end)}\s*", rest)
        rest = rest[closing.end() :] if closing is not None else rest
        whole = marks.written.format(begin=marks.begin, reasoning=reasoning, end=marks.end, content=rest.lstrip())
        return whole if begun is None else whole.removeprefix(marks.begin).removeprefix("\n")

    def _appended_stop(self, rendering: Rendering, index: int) -> int:
        """The stop token of a turn that is written without: what the next begins with, if that ends one, or EOS."""
        message = rendering.messages[index]
        calls = message.calls
        role = "tool" if calls else "user"
        of, to = (calls[-1].name, calls[-1].id) if calls else ("", "")
        following = Spoken(role, _NEXT, name=of, tool_call_id=to)
        # Earlier turns are written without their reasoning.
        messages = [*rendering.messages[:index], replace(message, reasoning=""), following]
        longer = rendering.with_changes(messages, rendering.tools)
        try:
            bare, text = longer.text(index + 1, prompt=False).rstrip(), longer.text(index + 2, prompt=False)
            between = longer.ids(text[len(bare) : text.rfind(_NEXT)]) if text.startswith(bare) else []
        except ChatError:
            between = []
        candidates = [*(i for i in between if i in self._encoder.special), *([] if calls else self._after_answers())]
        stop = next((i for i in candidates[:1] if i in self.stop_ids), self._eos)
        if stop is None and self._named:
            stop = min(self._named)
        if stop is None:
            raise NoStop("nothing ends a turn: the template writes no stop token, and the tokenizer has no EOS token")
        return stop

    def _after_answers(self) -> Iterator[int]:
        """The control token that ends an answer.

        It is the first that stands behind the last answer, or behind an answer that a question follows. Where a token
        that is named as a stop stands behind it both times, that one is it (Command R7B closes its response first).
        """
        last = self._specials_behind(Spoken("assistant", _PROBE))
        further = self._specials_behind(Spoken("assistant", _PROBE), Spoken("user", _NEXT))
        for behind, other in ((last, further), (further, last)):
            if behind:
                named = next((i for i in behind if i in self._named and i in other), None)
                yield behind[0] if named is None or behind[0] in self._named else named
                return

    def _after_calls(self) -> Iterator[int]:
        """The control token that ends a turn of calls, where it is one that stands nowhere else."""
        for calls in ((_CALL, _CALL), (_CALL,)):
            for tools in (_TOOLS, None):
                text = self._rendered(Spoken("assistant", calls=calls), tools=tools)
                behind = self._specials(text[text.rfind(_PROBE) + len(_PROBE) :]) if _PROBE in text else []
                if behind:
                    if text.count(self._encoder.control[behind[-1]]) == 1:
                        yield behind[-1]
                    return

    def _specials_behind(self, answer: Spoken, *more: Spoken) -> list[int]:
        """The control tokens after an answer, up to what follows it."""
        text = self._rendered(answer, *more)
        end = text.rfind(_NEXT) if more else len(text)
        return self._specials(text[text.rfind(_PROBE) + len(_PROBE) : end]) if _PROBE in text and end >= 0 else []

    def _specials(self, text: str) -> list[int]:
        return [i for i in self._encoder.encode(text) if i in self._encoder.special]

    def _rendered(self, *messages: Spoken, tools: list[dict[str, Any]] | None = None) -> str:
        """A text of probes, empty where the template refuses it."""
        given = [Spoken("user", _NEXT), *messages]
        try:
            return self._template.render([m.in_form(self._template.form) for m in given], tools, prompt=False)
        except ChatError:
            return ""


def _tail(prompt: str, finished: str, index: int) -> str:
    """What a finished turn says after its generation prompt."""
    if finished.startswith(prompt):
        return finished[len(prompt) :]
    begun, empty = opened(prompt), closed(prompt)
    if begun is not None:
        # The generation prompt opens the reasoning: where finished turns do not show it, the model closes it first.
        said = _after(prompt[: prompt.rfind(begun.begin)], finished)
        if said is not None and said.startswith(begun.begin):
            return said[len(begun.begin) :]
        if said is not None:
            return f"\n{begun.end}\n\n{said.lstrip()}"
    elif empty is not None:
        said = _after(prompt[:empty], finished)
        if said is not None:
            return said[match.end() :] if (match := EMPTY.match(said)) is not None else said.lstrip()
    said = _after(prompt.rstrip(), finished)
    if said is not None:
        return said
    shared = next((i for i, (a, b) in enumerate(zip(prompt, finished, strict=False)) if a != b), len(finished))
    raise TemplateRewrites(
        f"the chat template writes turn {index} otherwise than its generation prompt begins it (after "
        f"{prompt[max(0, shared - 30) : shared]!r} the prompt goes on with {prompt[shared : shared + 40]!r})",
        field=f"messages[{index}]",
    )


def _after(beginning: str, finished: str) -> str | None:
    """What comes behind the beginning of a text; None where it begins otherwise."""
    return finished[len(beginning) :] if finished.startswith(beginning) else None
