"""A suite: a named choice of metrics for one kind of answer, so that callers need not know the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One metric and its settings.

    Attributes:
        metric: a key of `METRICS`.
        settings: the metric's own settings; what is not named keeps its default.
    """

    metric: str
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Metrics that go together.

    Attributes:
        summary: one sentence for a list of suites.
        metrics: what is measured, in the order it is shown.
    """

    summary: str
    metrics: tuple[Choice, ...]
