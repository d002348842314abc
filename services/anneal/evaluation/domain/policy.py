"""The rules an evaluation must meet, and the verdict: GO, NO-GO or INCONCLUSIVE.

A rule passes only when the whole 95 % interval is on the right side of its bound and fails only when the whole
interval is on the wrong side; in between the rows at hand cannot tell, and nobody is let through on luck.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import ge, gt, le

from anneal.evaluation.domain.estimates import Estimate
from anneal.evaluation.domain.metric import Better


class Verdict(Enum):
    """What the policy says."""

    GO = "GO"
    NO_GO = "NO-GO"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one metric must show on one benchmark.

    Attributes:
        benchmark: the benchmark's resource name.
        metric: the metric's name.
        min_value: the number must be at least this.
        max_value: the number must be at most this.
        min_gain_over_baseline: the gain over the baseline, counted in the metric's better direction, must be above
            this. For perplexity the gain is in nats per token.

    Raises:
        ValueError: the rule bounds nothing, or no number can meet both of its bounds.
    """

    benchmark: str
    metric: str
    min_value: float | None = None
    max_value: float | None = None
    min_gain_over_baseline: float | None = None

    def __post_init__(self) -> None:
        """Refuse a rule that every model or no model passes."""
        if self.min_value is None and self.max_value is None and self.min_gain_over_baseline is None:
            raise ValueError("a rule needs min_value, max_value or min_gain_over_baseline")
        if self.min_value is not None and self.max_value is not None and self.min_value > self.max_value:
            raise ValueError(f"min_value {self.min_value:g} is above max_value {self.max_value:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules a model must meet, all of them.

    Attributes:
        rules: at least one.
        min_scored: a number with fewer scored rows than this proves nothing.
        max_unscored_share: nor does one where more than this share of the rows could not be scored.

    Raises:
        ValueError: there is no rule, or a limit is out of range.
    """

    rules: tuple[Rule, ...]
    min_scored: int = 30
    max_unscored_share: float = 0.1

    def __post_init__(self) -> None:
        """Refuse a policy that lets everything through."""
        if not self.rules:
            raise ValueError("a policy needs at least one rule")
        if self.min_scored < 2:
            raise ValueError(f"min_scored is at least 2, not {self.min_scored}: one row has no error bar")
        if not 0 <= self.max_unscored_share < 1:
            raise ValueError(f"max_unscored_share is from 0 to below 1, not {self.max_unscored_share:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One metric on one benchmark: the model's number, and its difference to the baseline.

    Attributes:
        estimate: the model's own number.
        difference: ours minus the baseline's, paired by row; None without a baseline.
        better: which way the metric improves.
    """

    estimate: Estimate
    better: Better
    difference: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one bound of one rule came to.

    Attributes:
        rule: the rule.
        verdict: what this bound alone says.
        reason: one sentence with the numbers.
    """

    rule: Rule
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict and what it rests on, one finding for each bound of each rule."""

    verdict: Verdict
    findings: tuple[Finding, ...]


def judge(policy: Policy, cells: Mapping[tuple[str, str], Cell]) -> Judgement:
    """The policy's verdict on the cells, keyed by (benchmark, metric).

    One bound that fails makes NO-GO; otherwise one that cannot be told makes INCONCLUSIVE.
    """
    findings = tuple(finding for rule in policy.rules for finding in _findings(policy, rule, cells))
    verdicts = {finding.verdict for finding in findings}
    worst = next((v for v in (Verdict.NO_GO, Verdict.INCONCLUSIVE) if v in verdicts), Verdict.GO)
    return Judgement(verdict=worst, findings=findings)


def _findings(policy: Policy, rule: Rule, cells: Mapping[tuple[str, str], Cell]) -> Sequence[Finding]:
    cell = cells.get((rule.benchmark, rule.metric))
    if cell is None:
        return [Finding(rule=rule, verdict=Verdict.INCONCLUSIVE, reason=f"{rule.metric} was not measured")]
    bounds: list[tuple[str, Estimate | None, _Bound]] = []
    if rule.min_value is not None:
        bounds.append((rule.metric, cell.estimate, _Bound("at least", ge, rule.min_value)))
    if rule.max_value is not None:
        bounds.append((rule.metric, cell.estimate, _Bound("at most", le, rule.max_value)))
    if rule.min_gain_over_baseline is not None:
        label = f"{rule.metric} gain over the baseline"
        bounds.append((label, _gain(cell), _Bound("above", gt, rule.min_gain_over_baseline)))
    return [_finding(policy, rule, label, number, bound) for label, number, bound in bounds]


@dataclass(frozen=True, slots=True)
class _Bound:
    words: str
    compare: Callable[[float, float], bool]
    limit: float

    def __call__(self, number: float) -> bool:
        return self.compare(number, self.limit)

    def __str__(self) -> str:
        return f"{self.words} {self.limit:g}"


def _finding(policy: Policy, rule: Rule, label: str, number: Estimate | None, bound: _Bound) -> Finding:
    """Decide one bound: met at both ends of the interval, at neither, or at one only."""
    doubt = _doubt(policy, number)
    if number is None or number.low is None or number.high is None or doubt is not None:
        return Finding(rule=rule, verdict=Verdict.INCONCLUSIVE, reason=f"{label}: {doubt}")
    shown = f"{label} {number.value:.4g} [{number.low:.4g}, {number.high:.4g}]"
    met = (bound(number.low), bound(number.high))
    if all(met):
        return Finding(rule=rule, verdict=Verdict.GO, reason=f"{shown} is {bound}")
    if not any(met):
        return Finding(rule=rule, verdict=Verdict.NO_GO, reason=f"{shown} is not {bound}")
    unsettled = f"{shown}: the interval does not settle whether it is {bound}"
    return Finding(rule=rule, verdict=Verdict.INCONCLUSIVE, reason=unsettled)


def _doubt(policy: Policy, number: Estimate | None) -> str | None:
    """Why the number proves nothing, or None."""
    if number is None:
        return "there is no baseline"
    if number.scored < policy.min_scored:
        return f"{number.scored} scored rows, {policy.min_scored} are needed"
    if number.unscored > policy.max_unscored_share * (number.scored + number.unscored):
        return f"{number.unscored} of {number.scored + number.unscored} rows could not be scored"
    if number.stderr is None:
        return "no error bar"
    return None


def _gain(cell: Cell) -> Estimate | None:
    """The difference turned so that above zero is better."""
    number = cell.difference
    if number is None or cell.better is not Better.LOWER:
        return number
    return Estimate(
        value=None if number.value is None else -number.value,
        stderr=number.stderr,
        low=None if number.high is None else -number.high,
        high=None if number.low is None else -number.low,
        scored=number.scored,
        unscored=number.unscored,
        groups=number.groups,
    )
