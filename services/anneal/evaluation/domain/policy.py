"""The rules an evaluation must meet, and the verdict: GO, NO-GO or INCONCLUSIVE.

A rule passes only when the whole 95 % interval is on the right side of its bound and fails only when the whole
interval is on the wrong side; in between the rows at hand cannot tell, and nobody is let through on luck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from math import isfinite
from operator import ge, gt, le

from anneal.evaluation.domain.estimates import Estimate


class Verdict(Enum):
    """What the policy says."""

    GO = "GO"
    NO_GO = "NO-GO"
    INCONCLUSIVE = "INCONCLUSIVE"


DEFAULT_MIN_SCORED = 30
"""Below this the mean of so coarse a score as exact match is not near enough to normal for Student's t."""

MAX_UNSCORED_SHARE = 0.1
"""Where more than this share of the rows could not be scored, the rest need not be like the whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one metric must show on one benchmark. All bounds given must hold.

    Attributes:
        benchmark: the benchmark's resource name.
        metric: the metric's name.
        min_value: the number must be at least this.
        max_value: the number must be at most this.
        min_gain: the paired gain over the baseline must be above this; for perplexity in nats per token.
        max_loss: the paired loss against the baseline must be below this, counted likewise.

    Raises:
        ValueError: the rule bounds nothing, or no number can meet its bounds.
    """

    benchmark: str
    metric: str
    min_value: float | None = None
    max_value: float | None = None
    min_gain: float | None = None
    max_loss: float | None = None

    def __post_init__(self) -> None:
        """Refuse a rule that every model or no model passes."""
        bounds = (self.min_value, self.max_value, self.min_gain, self.max_loss)
        if all(bound is None for bound in bounds):
            raise ValueError("a rule needs min_value, max_value, min_gain or max_loss")
        if not all(isfinite(bound) for bound in bounds if bound is not None):
            raise ValueError("a bound is a finite number")
        if self.min_value is not None and self.max_value is not None and self.min_value > self.max_value:
            raise ValueError(f"min_value {self.min_value:g} is above max_value {self.max_value:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules a model must meet, all of them.

    Attributes:
        rules: at least one.
        min_scored: a number with fewer scored rows than this proves nothing.

    Raises:
        ValueError: there is no rule, or the limit is out of range.
    """

    rules: tuple[Rule, ...]
    min_scored: int = DEFAULT_MIN_SCORED

    def __post_init__(self) -> None:
        """Refuse a policy that lets everything through."""
        if not self.rules:
            raise ValueError("a policy needs at least one rule")
        if self.min_scored < 2:
            raise ValueError(f"min_scored is at least 2, not {self.min_scored}: one row has no error bar")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One metric on one benchmark.

    Attributes:
        estimate: the model's own number.
        gain: how much better it is than the baseline, paired by row; None without a baseline.
    """

    estimate: Estimate
    gain: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOutcome:
    """What one rule came to, and why in one sentence with the numbers."""

    rule: Rule
    verdict: Verdict
    explanation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict and the outcome of every rule it rests on, in the policy's order."""

    verdict: Verdict
    outcomes: tuple[RuleOutcome, ...]


def judge(policy: Policy, cells: Mapping[tuple[str, str], Cell]) -> Judgement:
    """The policy's verdict on the cells, keyed by (benchmark, metric).

    One bound that fails makes NO-GO; otherwise one that cannot be told makes INCONCLUSIVE.
    """
    outcomes = tuple(_outcome(policy, rule, cells.get((rule.benchmark, rule.metric))) for rule in policy.rules)
    return Judgement(verdict=_worst(outcome.verdict for outcome in outcomes), outcomes=outcomes)


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    found = set(verdicts)
    return next((verdict for verdict in (Verdict.NO_GO, Verdict.INCONCLUSIVE) if verdict in found), Verdict.GO)


def _outcome(policy: Policy, rule: Rule, cell: Cell | None) -> RuleOutcome:
    if cell is None:
        return RuleOutcome(
            rule=rule, verdict=Verdict.INCONCLUSIVE, explanation=f"{rule.metric} was not measured on this benchmark"
        )
    findings = [_finding(policy, bound) for bound in _bounds(rule, cell)]
    return RuleOutcome(
        rule=rule,
        verdict=_worst(verdict for verdict, _ in findings),
        explanation="; ".join(sentence for _, sentence in findings),
    )


@dataclass(frozen=True, slots=True)
class _Bound:
    """One bound of a rule, and the number it is about."""

    label: str
    number: Estimate | None
    words: str
    is_met: Callable[[float, float], bool]
    limit: float


def _bounds(rule: Rule, cell: Cell) -> list[_Bound]:
    gain = f"{rule.metric} gain over the baseline"
    bounds = []
    if rule.min_value is not None:
        bounds.append(_Bound(rule.metric, cell.estimate, "at least", ge, rule.min_value))
    if rule.max_value is not None:
        bounds.append(_Bound(rule.metric, cell.estimate, "at most", le, rule.max_value))
    if rule.min_gain is not None:
        bounds.append(_Bound(gain, cell.gain, "above", gt, rule.min_gain))
    if rule.max_loss is not None:
        bounds.append(_Bound(gain, cell.gain, "above", gt, -rule.max_loss))
    return bounds


def _finding(policy: Policy, bound: _Bound) -> tuple[Verdict, str]:
    """Decide one bound: met at both ends of the interval, at neither, or at one only."""
    number, wanted = bound.number, f"{bound.words} {bound.limit:g}"
    doubt = _doubt(policy, number)
    if number is None or number.low is None or number.high is None or doubt is not None:
        return Verdict.INCONCLUSIVE, f"{bound.label}: {doubt}"
    shown = f"{bound.label} {number.value:.4g} [{number.low:.4g}, {number.high:.4g}]"
    met = {bound.is_met(end, bound.limit) for end in (number.low, number.high)}
    if met == {True}:
        return Verdict.GO, f"{shown} is {wanted}"
    if met == {False}:
        return Verdict.NO_GO, f"{shown} is not {wanted}"
    return Verdict.INCONCLUSIVE, f"{shown}: the interval does not settle whether it is {wanted}"


def _doubt(policy: Policy, number: Estimate | None) -> str | None:
    """Why the number proves nothing, or None."""
    if number is None:
        return "there is no baseline to compare with"
    if number.scored < policy.min_scored:
        return f"{number.scored} scored rows, {policy.min_scored} are needed"
    rows = number.scored + number.unscored
    if number.unscored > MAX_UNSCORED_SHARE * rows:
        return f"{number.unscored} of {rows} rows could not be scored"
    if number.stderr is None:
        return "no error bar"
    return None
