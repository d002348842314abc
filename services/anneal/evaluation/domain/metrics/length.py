"""How long the answers are. Neither way is better: it is shown so that a gain by length alone can be seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from anneal.evaluation.domain.estimates import Link, Score
from anneal.evaluation.domain.metric import Better
from anneal.evaluation.domain.samples import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """Mean length of the answers, in tokens."""

    better: ClassVar[Better] = Better.NEITHER
    link: ClassVar[Link] = Link.IDENTITY
    unit: ClassVar[str] = "tokens"
    needs_answer: ClassVar[bool] = True
    needs_logprobs: ClassVar[bool] = False

    def score(self, sample: Sample) -> Score | None:
        """The answer's tokens; None without an answer."""
        if sample.answer is None or sample.answer_tokens is None:
            return None
        return Score(value=float(sample.answer_tokens), group=sample.group)
