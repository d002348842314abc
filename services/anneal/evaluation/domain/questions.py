"""A benchmark's rows as questions: what the model is shown, and what it should have said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

NO_REFERENCE = "NO_REFERENCE"
FIELDS_NOT_SERVED = "FIELDS_NOT_SERVED"
_NOT_SERVED = ("name", "tool_calls", "tool_call_id")
"""What a message of a prompt may have and serving is not sent: without it the prompt would be another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One row of a benchmark.

    Attributes:
        id: the row's id; rows that come again get a number behind it, so that every id is used once.
        group: where the row comes from.
        messages: pairs of role and content that the model is shown.
        reference: the text of the last assistant turn; None where the row does not end with one that answers something
            in words alone.
        tools: tools as a JSON list, or empty.
        cause: why the question is not asked; empty where it is.
    """

    id: str
    group: str
    messages: tuple[tuple[str, str], ...]
    reference: str | None
    tools: str = ""
    cause: str = ""


def questions(rows: Iterable[Mapping[str, Any]], max_rows: int = 0) -> list[Question]:
    """The rows as questions, ordered by id. With `max_rows` above 0 only the first so many of that order.

    Ids are digests of the rows' content, so the order says nothing of where a row stood, and the same rows are chosen
    for every model.
    """
    seen: dict[str, int] = {}
    found = []
    for row in rows:
        number = seen[row["id"]] = seen.get(row["id"], 0) + 1
        found.append(_question(row, row["id"] if number == 1 else f"{row['id']}#{number}"))
    found.sort(key=lambda question: question.id)
    return found[:max_rows] if max_rows > 0 else found


def _question(row: Mapping[str, Any], row_id: str) -> Question:
    turns = row["messages"]
    answers = len(turns) > 1 and turns[-1]["role"] == "assistant"
    prompt = turns[:-1] if answers else turns
    reference = None if not answers or turns[-1].get("tool_calls") else turns[-1]["content"]
    is_served = not any(turn.get(field) for turn in prompt for field in _NOT_SERVED)
    return Question(
        id=row_id,
        group=row["source"] or "",
        messages=tuple((turn["role"], turn["content"] or "") for turn in prompt),
        reference=reference,
        tools=row["tools"] or "",
        cause=NO_REFERENCE if reference is None else "" if is_served else FIELDS_NOT_SERVED,
    )
