"""How many words answer and reference share.

Rule: Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1 (F1 over bags of normalised words); where either has no
word left after normalisation the score is 1 if both have none, else 0, as in the official script of SQuAD 2.0
(Rajpurkar et al. 2018, arXiv:1806.03822).
Differs from the paper: one reference a question, so there is no maximum over references.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from anneal.evaluation.domain.estimates import Link, Score
from anneal.evaluation.domain.metric import Better
from anneal.evaluation.domain.normalisation import words
from anneal.evaluation.domain.samples import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenF1:
    """Mean of the harmonic mean of word precision and recall; higher is better, range 0-1."""

    better: ClassVar[Better] = Better.HIGHER
    link: ClassVar[Link] = Link.IDENTITY
    unit: ClassVar[str] = ""
    needs_answer: ClassVar[bool] = True
    needs_logprobs: ClassVar[bool] = False

    def score(self, sample: Sample) -> Score | None:
        """The answer's F1; None without an answer."""
        if sample.answer is None:
            return None
        return Score(value=f1(words(sample.answer), words(sample.reference)), group=sample.group)


def f1(given: list[str], wanted: list[str]) -> float:
    """F1 of two bags of words."""
    if not given or not wanted:
        return float(given == wanted)
    shared = (Counter(given) & Counter(wanted)).total()
    return 2 * shared / (len(given) + len(wanted))
