"""A suite: a named choice of metrics, so that callers need not know them one by one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Metrics that go together.

    Attributes:
        summary: one sentence for a list of suites.
        metrics: keys of `METRICS`, in the order they are shown.
    """

    summary: str
    metrics: tuple[str, ...]
