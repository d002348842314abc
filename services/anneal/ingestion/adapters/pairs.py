"""What formats of a question and an answer in two columns have in common.

A `system` text and earlier turns in `history` come first; reasoning may stand in a column of its own. Question and
answer may also be lists of messages. Where a format has a `context`, the prompt is the context, a blank line, and the
question.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.importers.base import (
    BadRow,
    Imported,
    Turn,
    conversation,
    first_text,
    parsed,
    text_of,
    tools_of,
)
from anneal.ingestion.adapters.media import check_columns, check_text
from anneal.ingestion.adapters.turns import REASONING_FIELDS, read_turns
from anneal.kit.chat.messages import split_reasoning
from anneal.kit.records import RecordKind

SYSTEM_FIELDS = ("system", "system_prompt")
CHOICES = ("choices", "options", "endings")
"""Columns of multiple choice: a question without them is another one."""
BESIDE = frozenset({*SYSTEM_FIELDS, *REASONING_FIELDS, "history", "tools", "functions"})


class Pair:
    """Reads rows of a question and an answer."""

    kind: RecordKind = "conversation"

    def __init__(self, question: str, answer: str, *, context: str = "") -> None:
        self.question, self.answer, self._context = question, answer, context
        self.fields = frozenset({question, answer, *BESIDE, *filter(None, (context,))})

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether it has both columns, as texts or messages, and no choices beside them."""
        kinds = (str, list, type(None))
        has_both = all(name in row and isinstance(row[name], kinds) for name in (self.question, self.answer))
        return has_both and not any(row.get(name) for name in CHOICES)

    def read(self, row: Mapping[str, Any]) -> Iterator[Imported]:
        """One conversation.

        Raises:
            BadRow: a field is missing or of the wrong type.
        """
        check_columns(row)
        prompt, more = prompt_of(row, self.question, self._context)
        answer, rest = answer_of(row, self.answer)
        yield conversation([*prompt, *answer], tools=tools_of(row), meta={**more, **rest})


def prompt_of(row: Mapping[str, Any], field: str, context_field: str = "") -> tuple[list[Turn], dict[str, Any]]:
    """What stands before an answer: system, history and question; and what of it no message holds.

    Raises:
        BadRow: a field is missing or of the wrong type.
    """
    before = opening(row)
    if isinstance(row.get(field), list | Mapping):
        turns, more = read_turns(row[field], field)
        if before and turns and turns[0]["role"] == "system":
            raise BadRow("two_system_turns", "the row has a system text beside messages that begin with one")
        return [*before, *turns], more
    question, context = text_of(row, field), text_of(row, context_field, required=False)
    return [*before, user(f"{context}\n\n{question}" if context.strip() else question)], {}


def opening(row: Mapping[str, Any]) -> list[Turn]:
    """A row's system text and earlier turns.

    Raises:
        BadRow: one is of the wrong type.
    """
    system = first_text(row, *SYSTEM_FIELDS)
    turns: list[Turn] = [{"role": "system", "content": system}] if system else []
    history = parsed(row, "history") or []
    if not isinstance(history, list):
        raise BadRow("wrong_type", f"the field 'history' is {type(history).__name__}, not a list")
    for pair in history:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(x, str) for x in pair):
            raise BadRow("wrong_type", "an entry of 'history' is not a pair of texts")
        turns += [user(pair[0]), assistant(pair[1])]
    return turns


def answer_of(row: Mapping[str, Any], field: str) -> tuple[list[Turn], dict[str, Any]]:
    """An answer, with the reasoning beside it; and what of it no message holds.

    Raises:
        BadRow: it is missing or of the wrong type.
    """
    if isinstance(row.get(field), list | Mapping):
        return read_turns(row[field], field)[0], {}
    return [assistant(text_of(row, field), first_text(row, *REASONING_FIELDS))], {}


def user(text: str) -> Turn:
    """A question.

    Raises:
        BadRow: it is about a picture, a film or a sound.
    """
    check_text(text, "user", 0)
    return {"role": "user", "content": text}


def assistant(text: str, reasoning: str = "") -> Turn:
    """An answer; reasoning in `<think>` before it is taken out where none is given."""
    if not reasoning:
        reasoning, text = split_reasoning(text)
    turn = {"role": "assistant", "content": text}
    return {**turn, "reasoning": reasoning} if reasoning else turn
