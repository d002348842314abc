"""One row of a benchmark together with what the model under test made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AnswerFormat = Literal["text", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A question's reference beside the model's answer.

    Attributes:
        id: the row's id, the same for every model, so that models can be paired.
        reference: the answer the benchmark holds to be right.
        answer: what the model said; None when it gave no answer at all. An empty answer is an answer.
        answer_format: how the answer is compared with the reference: as words, or as a JSON value.
        group: where the row comes from; rows of one group are not independent.
        reference_logprobs: natural logarithm of the probability the model gives each token of the reference, in
            order, its stop token included; None when it was not asked or could not say.
        answer_tokens: length of the answer in tokens.
        latency_s: seconds from the question to the last token of the answer.
    """

    id: str
    reference: str
    answer: str | None
    answer_format: AnswerFormat = "text"
    group: str = ""
    reference_logprobs: tuple[float, ...] | None = None
    answer_tokens: int | None = None
    latency_s: float | None = None
