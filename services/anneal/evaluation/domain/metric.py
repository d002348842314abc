"""What every metric promises: a score for one sample, and which way is better."""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Protocol

from anneal.evaluation.domain.estimates import Link, Score
from anneal.evaluation.domain.samples import Sample


class Better(Enum):
    """Which way a metric improves."""

    HIGHER = 1
    LOWER = -1
    NEITHER = 0


class Metric(Protocol):
    """One way to score a sample. Stateless: the engine keeps the scores and takes their mean.

    Attributes:
        better: which way is better.
        link: how the mean of the scores becomes the number shown.
        unit: what the number counts; empty for a share between 0 and 1.
        needs_answer: whether it looks at the model's answer.
        needs_logprobs: whether it looks at the reference's log-probabilities.
    """

    better: ClassVar[Better]
    link: ClassVar[Link]
    unit: ClassVar[str]
    needs_answer: ClassVar[bool]
    needs_logprobs: ClassVar[bool]

    def score(self, sample: Sample) -> Score | None:
        """The sample's score, or None where it cannot be scored. None is never counted as zero."""
        ...
