"""What a model made of one question, and the sample that metrics score."""

from __future__ import annotations

from dataclasses import dataclass

from anneal.evaluation.domain.questions import Question
from anneal.evaluation.domain.samples import AnswerFormat, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back for one question. Absent parts were not asked for, or could not be had: `cause` says which.

    Attributes:
        text: the answer.
        finish_reason: `stop` or `length`.
        tokens: length of the answer in tokens.
        latency_s: seconds until the whole answer was there.
        reference_logprobs: natural logarithms of the reference's token probabilities.
        cause: stable reason why something is absent, such as `PROMPT_TOO_LONG`; empty when all is there.
    """

    text: str | None = None
    finish_reason: str = ""
    tokens: int | None = None
    latency_s: float | None = None
    reference_logprobs: tuple[float, ...] | None = None
    cause: str = ""


def sample(question: Question, answer: Answer, answer_format: AnswerFormat) -> Sample:
    """Question and answer as a metric sees them."""
    return Sample(
        id=question.id,
        reference=question.reference or "",
        answer=None if question.reference is None else answer.text,
        answer_format=answer_format,
        group=question.group,
        reference_logprobs=answer.reference_logprobs,
        answer_tokens=answer.tokens,
        latency_s=answer.latency_s,
    )
