"""How long an answer takes, under the load the evaluation itself puts on the serving service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from anneal.evaluation.domain.estimates import Link, Score
from anneal.evaluation.domain.metric import Better
from anneal.evaluation.domain.samples import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Mean seconds from question to last token; lower is better. Says nothing about another load."""

    better: ClassVar[Better] = Better.LOWER
    link: ClassVar[Link] = Link.IDENTITY
    unit: ClassVar[str] = "s"
    needs_answer: ClassVar[bool] = True
    needs_logprobs: ClassVar[bool] = False

    def score(self, sample: Sample) -> Score | None:
        """The answer's seconds; None without an answer."""
        if sample.answer is None or sample.latency_s is None:
            return None
        return Score(value=sample.latency_s, group=sample.group)
