"""Tells the reasoning of an answer from its content while it is written."""

from __future__ import annotations

from dataclasses import dataclass

from anneal.kit.chat.messages import REASONING_MARKS


@dataclass(frozen=True, slots=True)
class Marks:
    """What a family writes around its reasoning: `begin` before it, `end` between it and the content."""

    begin: str
    end: str


HARMONY = Marks("<|channel|>analysis<|message|>", "<|channel|>final<|message|>")
"""GPT-OSS: the reasoning is a message of its own, which `<|end|><|start|>assistant` follows."""
_HARMONY_TAIL = "<|end|><|start|>assistant"


def marks_of(template: str) -> Marks | None:
    """The marks that a chat template's text mentions; None where it knows no reasoning."""
    if HARMONY.end in template or "<|channel|>final" in template:
        return HARMONY
    return next((Marks(a, b) for a, b in REASONING_MARKS if b in template), None)


class ReasoningSplitter:
    """Splits an answer that comes in pieces. Give every piece to `feed`, then call `end`.

    An answer that neither begins with the mark nor stands behind a prompt that opened the reasoning is all content.
    """

    def __init__(self, marks: Marks, *, opened: bool) -> None:
        self._marks = marks
        self._state = "reasoning" if opened else "undecided"
        self._held = ""
        self._began = False

    def feed(self, text: str) -> tuple[str, str]:
        """Take a piece of the answer; returns new reasoning and new content, either may be empty."""
        self._held += text
        reasoning = ""
        if self._state == "undecided" and not self._decide():
            return "", ""
        if self._state == "reasoning":
            at = self._held.find(self._marks.end)
            if at < 0:
                kept = self._overlap()
                reasoning, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
                return self._first(reasoning), ""
            reasoning = self._first(self._without_tail(self._held[:at]))
            self._held = self._held[at + len(self._marks.end) :]
            self._state, self._began = "content", False
        content, self._held = self._held, ""
        if not self._began:
            content = content.lstrip("\n")
            self._began = bool(content)
        return reasoning, content

    def end(self) -> tuple[str, str]:
        """What is still held back when the answer has ended; returns reasoning and content."""
        held, self._held = self._held, ""
        return ("", held) if self._state != "reasoning" else (self._first(held), "")

    def _decide(self) -> bool:
        """Whether it is known by now what the answer begins with."""
        bare = self._held.lstrip()
        for mark, state in ((self._marks.begin, "reasoning"), (self._marks.end, "content")):
            if bare.startswith(mark):
                self._held, self._state = bare[len(mark) :], state
                return True
        if any(mark.startswith(bare) for mark in (self._marks.begin, self._marks.end)):
            return False
        self._state, self._began = "content", True
        return True

    def _overlap(self) -> int:
        """How many characters at the end may belong to the mark, or be white space that it follows."""
        ending = (_HARMONY_TAIL if self._marks is HARMONY else "") + self._marks.end
        most = min(len(self._held), len(ending) - 1)
        begun = next((n for n in range(most, 0, -1) if ending.startswith(self._held[-n:])), 0)
        rest = self._held[: len(self._held) - begun]
        return begun + len(rest) - len(rest.rstrip("\n"))

    def _without_tail(self, reasoning: str) -> str:
        if self._marks is HARMONY:
            reasoning = reasoning.removesuffix(_HARMONY_TAIL)
        return reasoning.rstrip("\n")

    def _first(self, reasoning: str) -> str:
        """New reasoning, without the new lines that it begins with."""
        if not self._began:
            reasoning = reasoning.lstrip("\n")
            self._began = bool(reasoning)
        return reasoning
