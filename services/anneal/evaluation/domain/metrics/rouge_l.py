"""How long a sequence of words answer and reference share.

Measure: ROUGE-L, Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries" (W04-1013), section 3, computed
by the `rouge-score` library: words are runs of ASCII letters and digits in lower case, precision and recall weigh
the same, and the whole text is one sentence. No stemmer, so that names in code are compared as they stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from anneal.evaluation.domain.estimates import Link, Score
from anneal.evaluation.domain.metric import Better
from anneal.evaluation.domain.samples import Sample

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer


@dataclass(frozen=True, slots=True, kw_only=True)
class RougeL:
    """Mean F-measure of the longest common subsequence of words; higher is better, range 0-1.

    A reference without a single ASCII letter or digit is unscored: the measure cannot see it.
    """

    better: ClassVar[Better] = Better.HIGHER
    link: ClassVar[Link] = Link.IDENTITY
    unit: ClassVar[str] = ""
    needs_answer: ClassVar[bool] = True
    needs_logprobs: ClassVar[bool] = False

    def score(self, sample: Sample) -> Score | None:
        """The answer's ROUGE-L; None without an answer or with a reference that has no words."""
        if sample.answer is None or not any(mark.isascii() and mark.isalnum() for mark in sample.reference):
            return None
        measure = _scorer().score(sample.reference, sample.answer)["rougeL"].fmeasure
        return Score(value=float(measure), group=sample.group)


@cache
def _scorer() -> RougeScorer:
    # Imported on first use: it brings nltk and scikit-learn with it, over a second that only this metric needs.
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=False)
