"""Reasoning and content of an answer, however it is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anneal.kit.chat.reasoning import HARMONY, MUSE, TAGS, Marks, ReasoningSplitter, closed, marks_of, opened
from tests.fixtures.families.oracle import tokenizer_of
from tests.fixtures.families.table import FAMILIES

ALL = [HARMONY, MUSE, *TAGS]
PIECES = st.sampled_from(
    [*(p for m in ALL for p in (m.begin, m.end, m.next, m.header) if p), "a", "\n", "\n\n", " ", "<", "é"]
)


def split(marks: Marks, pieces: list[str], *, opened: bool = False) -> tuple[str, str]:
    splitter = ReasoningSplitter(marks, opened=opened)
    found = [splitter.feed(piece) for piece in pieces] + [splitter.end()]
    return "".join(reasoning for reasoning, _ in found), "".join(content for _, content in found)


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted({place % (len(text) + 1) for place in places})
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    marks=st.sampled_from(ALL),
    text=st.lists(PIECES, max_size=8).map("".join),
    places=st.lists(st.integers(0, 200), max_size=12),
    opened=st.booleans(),
)
def test_every_way_of_cutting_gives_the_same(marks: Marks, text: str, places: list[int], opened: bool) -> None:
    whole = split(marks, [text], opened=opened)
    assert split(marks, cut(text, places), opened=opened) == whole
    assert split(marks, list(text), opened=opened) == whole
    known = tuple(mark.strip() for mark in (marks.begin, marks.end, marks.header) if mark)
    if not opened and not text.lstrip().startswith(known):
        assert whole == ("", text)


@pytest.mark.parametrize(
    ("marks", "answer", "opened", "expected"),
    [
        (TAGS[0], "<think>\nFirst this.\n</think>\n\nThen that.", False, ("First this.", "Then that.")),
        (TAGS[0], "First this.\n</think>\n\nThen that.", True, ("First this.", "Then that.")),
        (TAGS[0], "\n</think>\n\nThen that.", True, ("", "Then that.")),
        (TAGS[0], "Then <think>that</think>.", False, ("", "Then <think>that</think>.")),
        (TAGS[0], "<think>cut off\n", False, ("cut off", "")),
        (TAGS[1], "[THINK]First.[/THINK]Then.", False, ("First.", "Then.")),
        (TAGS[3], "<|channel>thought\nFirst.\n<channel|>Then.", False, ("First.", "Then.")),
        (HARMONY, "<|channel|>final<|message|>Then.", False, ("", "Then.")),
        (
            HARMONY,
            "<|channel|>analysis<|message|>First.<|end|><|start|>assistant<|channel|>final<|message|>Then.",
            False,
            ("First.", "Then."),
        ),
        (
            HARMONY,
            "<|channel|>analysis<|message|>First.<|end|><|start|>assistant"
            ' to=functions.f<|channel|>commentary json<|message|>{"a": 1}',
            False,
            ("First.", ' to=functions.f<|channel|>commentary json<|message|>{"a": 1}'),
        ),
        (
            MUSE,
            " to=self<|message|>First.<|eom|><|start|>assistant to=user<|message|>Then.",
            False,
            ("First.", "Then."),
        ),
        (MUSE, " to=user<|message|>Then.", False, ("", "Then.")),
    ],
)
def test_the_families_answers(marks: Marks, answer: str, opened: bool, expected: tuple[str, str]) -> None:
    assert split(marks, [answer], opened=opened) == expected


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.thought is not None], ids=lambda f: f.name)
def test_what_a_family_learns_is_told_apart_again(family: object) -> None:
    """The answer that `table.py` says a family writes, without its stop, as serving decodes it."""
    from tests.fixtures.families.table import Family

    assert isinstance(family, Family)
    assert family.thought is not None
    marks = marks_of(tokenizer_of(family).chat_template)
    assert marks is not None
    for thought, reasoning in ((family.thought.format(reasoning="First\nthis."), "First\nthis."), (family.before, "")):
        begun = marks.begin not in family.thought
        assert split(marks, list(f"{thought}Then that."), opened=begun) == (reasoning, "Then that.")


def test_prompts_that_open_reasoning_and_prompts_that_close_it() -> None:
    assert opened("<|im_start|>assistant\n<think>\n") == TAGS[0]
    assert opened("<|im_start|>assistant\n") is None
    assert closed("<|im_start|>assistant\n<think>\n\n</think>\n\n") == len("<|im_start|>assistant\n")
    assert closed("<think>\nit\n</think>\n\n") is None
    assert closed("</think>") is None
