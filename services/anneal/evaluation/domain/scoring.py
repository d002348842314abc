"""From samples to scores by row, and from scores to the cells of the matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from anneal.evaluation.domain.estimates import Estimate, Score, difference, estimate
from anneal.evaluation.domain.metric import Better, Metric
from anneal.evaluation.domain.metrics import METRICS
from anneal.evaluation.domain.samples import Sample

Scores = Mapping[str, Mapping[str, Score | None]]
"""metric -> row id -> score, or None where the row could not be scored."""


def score(samples: Sequence[Sample], metrics: Iterable[str]) -> dict[str, dict[str, Score | None]]:
    """Every sample's score under every metric."""
    return {name: {one.id: METRICS[name].score(one) for one in samples} for name in metrics}


def number(metric: str, scores: Mapping[str, Score | None]) -> Estimate:
    """The metric's number over the rows."""
    return estimate(scores.values(), link=METRICS[metric].link)


def gain(metric: str, ours: Mapping[str, Score | None], theirs: Mapping[str, Score | None]) -> Estimate | None:
    """How much better ours is, paired by row; None for a metric of which neither way is better.

    Rows that only theirs has are left aside: they were not asked here.
    """
    better = METRICS[metric].better
    if better is Better.NEITHER:
        return None
    return difference(ours, {row_id: theirs.get(row_id) for row_id in ours}, sign=better.value)


def comparable(metrics: Iterable[str], *, is_same_base: bool) -> list[str]:
    """The metrics by which two models can be compared: likelihoods per token only over the same tokenizer."""
    return [name for name in metrics if is_same_base or not METRICS[name].needs_logprobs]


def needs(metrics: Iterable[str]) -> tuple[bool, bool]:
    """Whether any of the metrics looks at answers, and whether any looks at log-probabilities."""
    chosen: list[Metric] = [METRICS[name] for name in metrics]
    return any(metric.needs_answer for metric in chosen), any(metric.needs_logprobs for metric in chosen)
