"""Rows as questions."""

from __future__ import annotations

import random
from typing import Any

import pytest

from anneal.evaluation.domain.answers import Answer, sample
from anneal.evaluation.domain.questions import FIELDS_NOT_SERVED, NO_REFERENCE, questions


def row(row_id: str, *turns: tuple[str, str], source: str | None = "page") -> dict[str, Any]:
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"id": row_id, "messages": messages, "tools": None, "source": source}


def test_the_last_assistant_turn_is_the_reference() -> None:
    turns = (("system", "s"), ("user", "u1"), ("assistant", "a1"), ("user", "u2"), ("assistant", "a2"))
    (found,) = questions([row("r", *turns)])
    assert (found.messages, found.reference, found.group) == (turns[:-1], "a2", "page")


@pytest.mark.parametrize("turns", [(("user", "u"),), (("assistant", "a"),), (("user", "u"), ("tool", "t"))])
def test_rows_without_an_answer_to_something_have_no_reference(turns: tuple[tuple[str, str], ...]) -> None:
    (found,) = questions([row("r", *turns)])
    assert found.reference is None


def test_rows_that_come_again_have_an_id_of_their_own() -> None:
    again = row("r", ("user", "u"), ("assistant", "a"))
    assert [question.id for question in questions([again, again, again])] == ["r", "r#2", "r#3"]


def test_the_rows_chosen_do_not_depend_on_their_order() -> None:
    rows = [row(f"{i:02}", ("user", "u"), ("assistant", "a")) for i in range(20)]
    chosen = [question.id for question in questions(rows, 5)]
    random.Random(3).shuffle(rows)
    assert [question.id for question in questions(rows, 5)] == chosen == ["00", "01", "02", "03", "04"]


def test_a_row_without_a_reference_has_no_answer_to_score() -> None:
    (found,) = questions([row("r", ("user", "u"), source=None)])
    assert found.cause == NO_REFERENCE
    assert sample(found, Answer(cause=found.cause), "text").answer is None
    assert sample(found, Answer(text="said"), "text").answer is None
    assert found.group == ""


CALL = {"id": "c", "name": "find", "arguments": "{}"}


@pytest.mark.parametrize("content", [None, "", "Let me look."])
def test_a_call_is_no_answer_in_words(content: str | None) -> None:
    last = {"role": "assistant", "content": content, "tool_calls": [CALL]}
    (found,) = questions([{**row("r", ("user", "u")), "messages": [{"role": "user", "content": "u"}, last]}])
    assert (found.reference, found.cause) == (None, NO_REFERENCE)


@pytest.mark.parametrize("more", [{"tool_calls": [CALL]}, {"tool_call_id": "c"}, {"name": "kim"}])
def test_a_prompt_that_serving_is_not_sent_whole_is_not_asked(more: dict[str, Any]) -> None:
    turns = [
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": None, **more},
        {"role": "assistant", "content": "a", "tool_calls": None, "reasoning": "why", "weight": None},
    ]
    (found,) = questions([{**row("r"), "messages": turns}])
    assert (found.messages[1], found.reference, found.cause) == (("assistant", ""), "a", FIELDS_NOT_SERVED)
    (plain,) = questions([{**row("r"), "messages": [turns[0], turns[2]]}])
    assert (plain.reference, plain.cause) == ("a", "")
