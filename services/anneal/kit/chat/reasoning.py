"""What families write around the reasoning before an answer, and how the two are told apart while they are written."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Marks:
    """What a family writes around its reasoning.

    Attributes:
        begin: stands before the reasoning.
        end: stands behind it.
        next: may follow `end`, before the content; where the content comes without reasoning, its `header` alone.
        header: how the content begins where that is written, too.
        written: a turn with reasoning, for templates that drop it from finished turns; empty where it is not known.
    """

    begin: str
    end: str
    next: str = ""
    header: str = ""
    written: str = ""


HARMONY = Marks(
    "<|channel|>analysis<|message|>",
    "<|end|>",
    "<|start|>assistant<|channel|>final<|message|>",
    "<|channel|>final<|message|>",
)
"""GPT-OSS: reasoning and content are messages of their own."""
MUSE = Marks(" to=self<|message|>", "<|eom|>", "<|start|>assistant to=user<|message|>", " to=user<|message|>")
_LINES, _INLINE = "{begin}\n{reasoning}\n{end}\n\n{content}", "{begin}{reasoning}{end}{content}"
TAGS = (
    Marks("<think>", "</think>", written=_LINES),
    Marks("[THINK]", "[/THINK]", written=_INLINE),
    Marks("<|START_THINKING|>", "<|END_THINKING|>", written=_INLINE),
    Marks("<|channel>thought", "<channel|>", written="{begin}\n{reasoning}\n{end}{content}"),
    Marks("<seed:think>", "</seed:think>", written=_INLINE),
    Marks("<thinking>", "</thinking>", written=_LINES),
)
EMPTY = re.compile(r"\s*(?:" + "|".join(rf"{re.escape(m.begin)}\s*{re.escape(m.end)}" for m in TAGS) + r")\s*")
"""A block of reasoning with nothing in it."""


def marks_of(template: str) -> Marks | None:
    """The marks that a chat template's text mentions; None where it knows no reasoning."""
    if HARMONY.header in template:
        return HARMONY
    if MUSE.begin in template:
        return MUSE
    return next((marks for marks in TAGS if marks.begin in template or marks.end in template), None)


def opened(prompt: str) -> Marks | None:
    """The marks of reasoning that a prompt's end has opened."""
    bare = prompt.rstrip()
    return next((marks for marks in TAGS if bare.endswith(marks.begin)), None)


def closed(prompt: str) -> int | None:
    """Where the empty block of reasoning begins that a prompt ends with: the model is told not to reason."""
    bare = prompt.rstrip()
    marks = next((marks for marks in TAGS if bare.endswith(marks.end)), None)
    begin = -1 if marks is None else bare.rfind(marks.begin)
    return begin if begin >= 0 and EMPTY.fullmatch(bare, begin) else None


class ReasoningSplitter:
    """Splits an answer that comes in pieces. Give every piece to `feed`, then call `end`.

    An answer that neither begins with the mark nor stands behind a prompt that opened the reasoning is all content. New
    lines around the reasoning, and before the content behind it, belong to neither.
    """

    def __init__(self, marks: Marks, *, opened: bool) -> None:
        self._marks = marks
        self._state = "reasoning" if opened else "undecided"
        self._held = ""
        self._began = False

    def feed(self, text: str) -> tuple[str, str]:
        """Take a piece of the answer; returns new reasoning and new content, either may be empty."""
        self._held += text
        if self._state == "undecided":
            self._decide(ended=False)
        reasoning = self._reason() if self._state == "reasoning" else ""
        if self._state == "between":
            self._pass(ended=False)
        return reasoning, self._content() if self._state == "content" else ""

    def end(self) -> tuple[str, str]:
        """What is still held back when the answer has ended; returns reasoning and content."""
        if self._state == "undecided":
            self._decide(ended=True)
        if self._state == "between":
            self._pass(ended=True)
        if self._state == "content":
            return "", self._content()
        held, self._held = self._held, ""
        return (self._first(held.rstrip("\n")), "") if self._state == "reasoning" else ("", held)

    def _decide(self, *, ended: bool) -> None:
        """Find out what the answer begins with, once that can be known."""
        bare = self._held.lstrip() if self._marks.begin[:1].strip() else self._held
        starts = [(self._marks.begin, "reasoning"), (self._marks.end, "between"), (self._marks.header, "content")]
        for mark, state in starts:
            if mark and bare.startswith(mark):
                self._held, self._state = bare[len(mark) :], state
                self._began = state == "content"
                return
        if not ended and any(mark.startswith(bare) for mark, _ in starts if mark):
            return
        self._state, self._began = "content", True

    def _reason(self) -> str:
        """New reasoning; what may belong to the mark behind it, and new lines before that, are held back."""
        at = self._held.find(self._marks.end)
        if at >= 0:
            reasoning = self._held[:at].rstrip("\n")
            self._held, self._state = self._held[at + len(self._marks.end) :], "between"
            made = self._first(reasoning)
            self._began = False
            return made
        most = min(len(self._held), len(self._marks.end) - 1)
        begun = next((n for n in range(most, 0, -1) if self._marks.end.startswith(self._held[-n:])), 0)
        rest = self._held[: len(self._held) - begun]
        kept = begun + len(rest) - len(rest.rstrip("\n"))
        reasoning, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        return self._first(reasoning)

    def _pass(self, *, ended: bool) -> None:
        """Leave out what stands between reasoning and content; calls of tools keep the header of their own."""
        for gap in (self._marks.next, self._marks.next.removesuffix(self._marks.header)):
            if gap and self._held.startswith(gap):
                self._held = self._held[len(gap) :]
                break
            if gap and not ended and gap.startswith(self._held):
                return
        self._state = "content"

    def _content(self) -> str:
        content, self._held = self._held, ""
        if not self._began:
            content = content.lstrip("\n")
            self._began = bool(content)
        return content

    def _first(self, reasoning: str) -> str:
        """New reasoning, without the new lines that it begins with."""
        if not self._began:
            reasoning = reasoning.lstrip("\n")
            self._began = bool(reasoning)
        return reasoning
