"""Grades from 1 to 4 with feedback, as one judge or several give them.

The scale is that of Hugging Face's cookbook, "Using LLM-as-a-judge for an automated and versatile evaluation"
(huggingface.co/learn/cookbook/llm_judge): small whole numbers, each with a meaning, and the reasons before the number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from anneal.curation.domain.judges import (
    MALFORMED,
    MATERIAL,
    MAX_TEXT,
    OUT_OF_RANGE,
    Asker,
    Asking,
    Judge,
    Judged,
    Question,
    Reply,
    Silence,
    feedback_of,
    read_object,
    rows_to_judge,
)
from anneal.curation.domain.needs import need

LOWEST, HIGHEST = 1, 4
RUBRIC = """\
Grade how well the answer serves whoever wrote the prompt:
1: irrelevant. It is about something else, is empty talk, or is wrong in what matters.
2: unhelpful. It is about the matter, but misses the point or most of what was asked.
3: helpful, but could be better. It answers in the main, with gaps, small errors or needless text.
4: excellent. It is correct, complete, to the point and clear."""
_SCHEMA = {
    "type": "object",
    "properties": {
        "feedback": {"type": "string"},
        "score": {"type": "integer", "enum": list(range(LOWEST, HIGHEST + 1))},
    },
    "required": ["feedback", "score"],
    "additionalProperties": False,
}
_FORM = (
    'Answer with one JSON object and nothing else: {"feedback": "<your reasons, in one to three sentences>", '
    '"score": <1, 2, 3 or 4>}'
)


def need_rubric(rubric: str) -> None:
    """Check the setting `rubric`.

    Raises:
        WrongSetting: it is blank or longer than 20,000 characters.
    """
    fits = bool(rubric.strip()) and len(rubric) <= MAX_TEXT
    need(fits, "rubric", f"is blank or longer than {MAX_TEXT} characters")


@dataclass(frozen=True, slots=True)
class Grade:
    """One judge's grade, 1 to 4, with its feedback."""

    score: int
    feedback: str | None


@dataclass(frozen=True, slots=True)
class Graded:
    """What judges said of a row.

    Attributes:
        characters: of the answer; 0 where there is none to judge.
        grades: of each judge in order, or why it gave none.
    """

    characters: int
    grades: Sequence[Grade | Silence]


def grades_of(
    batch: pa.RecordBatch, judges: Sequence[Judge], rubric: str, asking: Asking, asker: Asker
) -> list[Graded]:
    """Ask every judge about every row that has an answer, and read what they say."""
    rows = rows_to_judge(batch, asking.max_characters)
    questions = [
        _question(row, judge, rubric, asking.max_tokens) for row in rows if isinstance(row, Judged) for judge in judges
    ]
    replies = iter(asker.ask(questions, asking.concurrency))
    return [
        Graded(row.characters, [_read(next(replies)) for _ in judges])
        if isinstance(row, Judged)
        else Graded(0, [row] * len(judges))
        for row in rows
    ]


def _question(row: Judged, judge: Judge, rubric: str, max_tokens: int) -> Question:
    system = f"You judge answers, strictly and fairly. {MATERIAL}\n\n{rubric.strip()}\n\n{_FORM}"
    shown = row.between_marks(prompt=row.prompt, answer=row.answer)
    messages = ({"role": "system", "content": system}, {"role": "user", "content": shown})
    return Question(judge=judge, row_id=row.row_id, messages=messages, schema=_SCHEMA, max_tokens=max_tokens)


def _read(reply: Reply | Silence) -> Grade | Silence:
    value, cause = read_object(reply, "score")
    if value is None:
        return Silence(cause or MALFORMED)
    score: Any = value["score"]
    if isinstance(score, bool) or not isinstance(score, int | float) or score != score or score % 1:
        return Silence(MALFORMED)
    return Grade(int(score), feedback_of(value)) if LOWEST <= score <= HIGHEST else Silence(OUT_OF_RANGE)
