"""How surprised the model is by the reference.

Perplexity is the exponential of the mean negative log-likelihood per token, over all tokens of all references
(Jelinek et al. 1977, "Perplexity: a measure of the difficulty of speech recognition tasks"). A row's score is its
own mean weighted by its tokens; the mean over rows is then a ratio estimator, and the error bar of its exponential
follows by the delta method (see `estimates`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum, isfinite
from typing import ClassVar

from anneal.evaluation.domain.estimates import Link, Score
from anneal.evaluation.domain.metric import Better
from anneal.evaluation.domain.samples import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Perplexity:
    """Perplexity of the references, token by token; lower is better, at least 1.

    Comparable only between models with the same tokenizer. Differences are in nats per token.
    """

    better: ClassVar[Better] = Better.LOWER
    link: ClassVar[Link] = Link.EXP
    unit: ClassVar[str] = ""
    needs_answer: ClassVar[bool] = False
    needs_logprobs: ClassVar[bool] = True

    def score(self, sample: Sample) -> Score | None:
        """The reference's negative log-likelihood per token; None without (finite) log-probabilities."""
        logprobs = sample.reference_logprobs
        if not logprobs or not all(isfinite(logprob) for logprob in logprobs):
            return None
        return Score(value=-fsum(logprobs) / len(logprobs), weight=len(logprobs), group=sample.group)
