"""Verdicts on both sides of every threshold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.evaluation.domain.estimates import Estimate
from anneal.evaluation.domain.policy import Cell, Judgement, Policy, Rule, Verdict, judge

B = "projects/p/benchmarks/b"


def number(low: float, high: float, *, scored: int = 100, unscored: int = 0) -> Estimate:
    return Estimate(
        value=(low + high) / 2,
        stderr=(high - low) / 4,
        low=low,
        high=high,
        scored=scored,
        unscored=unscored,
        groups=scored,
    )


def verdict_of(rule: Rule, cell: Cell) -> Judgement:
    return judge(Policy(rules=(rule,)), {(B, "m"): cell})


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.5, 0.7, Verdict.GO),
        (0.49, 0.7, Verdict.INCONCLUSIVE),
        (0.3, 0.5, Verdict.INCONCLUSIVE),
        (0.3, 0.499, Verdict.NO_GO),
    ],
)
def test_min_value(low: float, high: float, expected: Verdict) -> None:
    rule = Rule(benchmark=B, metric="m", min_value=0.5)
    assert verdict_of(rule, Cell(estimate=number(low, high))).verdict is expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(8, 10, Verdict.GO), (8, 10.1, Verdict.INCONCLUSIVE), (10, 11, Verdict.INCONCLUSIVE), (10.1, 11, Verdict.NO_GO)],
)
def test_max_value(low: float, high: float, expected: Verdict) -> None:
    rule = Rule(benchmark=B, metric="m", max_value=10)
    assert verdict_of(rule, Cell(estimate=number(low, high))).verdict is expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.001, 0.2, Verdict.GO), (0.0, 0.2, Verdict.INCONCLUSIVE), (-0.2, 0.0, Verdict.NO_GO)],
)
def test_min_gain(low: float, high: float, expected: Verdict) -> None:
    rule = Rule(benchmark=B, metric="m", min_gain=0)
    assert verdict_of(rule, Cell(estimate=number(0, 1), gain=number(low, high))).verdict is expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.049, 0.2, Verdict.GO),
        (-0.05, 0.2, Verdict.INCONCLUSIVE),
        (-0.2, -0.05, Verdict.NO_GO),
    ],
)
def test_max_loss(low: float, high: float, expected: Verdict) -> None:
    rule = Rule(benchmark=B, metric="m", max_loss=0.05)
    assert verdict_of(rule, Cell(estimate=number(0, 1), gain=number(low, high))).verdict is expected


def test_all_bounds_of_a_rule_must_hold() -> None:
    rule = Rule(benchmark=B, metric="m", min_value=0.5, min_gain=0)
    judgement = verdict_of(rule, Cell(estimate=number(0.6, 0.7), gain=number(-0.2, -0.1)))
    assert judgement.verdict is Verdict.NO_GO
    assert judgement.outcomes[0].explanation == (
        "m 0.65 [0.6, 0.7] is at least 0.5; m gain over the baseline -0.15 [-0.2, -0.1] is not above 0"
    )


def test_no_baseline_is_inconclusive() -> None:
    rule = Rule(benchmark=B, metric="m", min_gain=0)
    judgement = verdict_of(rule, Cell(estimate=number(0, 1)))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "no baseline" in judgement.outcomes[0].explanation


@pytest.mark.parametrize(("scored", "expected"), [(30, Verdict.GO), (29, Verdict.INCONCLUSIVE)])
def test_too_few_scored_rows(scored: int, expected: Verdict) -> None:
    rule = Rule(benchmark=B, metric="m", min_value=0.5)
    cell = Cell(estimate=number(0.6, 0.7, scored=scored))
    assert verdict_of(rule, cell).verdict is expected


@pytest.mark.parametrize(("unscored", "expected"), [(10, Verdict.GO), (11, Verdict.INCONCLUSIVE)])
def test_too_many_unscored_rows(unscored: int, expected: Verdict) -> None:
    rule = Rule(benchmark=B, metric="m", min_value=0.5)
    cell = Cell(estimate=number(0.6, 0.7, scored=90, unscored=unscored))
    assert verdict_of(rule, cell).verdict is expected


def test_a_metric_nobody_measured_is_inconclusive() -> None:
    rule = Rule(benchmark=B, metric="other", min_value=0.5)
    judgement = verdict_of(rule, Cell(estimate=number(0.6, 0.7)))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.outcomes[0].explanation == "other was not measured on this benchmark"


def test_one_failed_rule_outweighs_the_rest() -> None:
    rules = (
        Rule(benchmark=B, metric="m", min_value=0.1),
        Rule(benchmark=B, metric="m", min_value=0.65),
        Rule(benchmark=B, metric="m", min_value=0.9),
    )
    judgement = judge(Policy(rules=rules), {(B, "m"): Cell(estimate=number(0.6, 0.7))})
    assert [outcome.verdict for outcome in judgement.outcomes] == [Verdict.GO, Verdict.INCONCLUSIVE, Verdict.NO_GO]
    assert judgement.verdict is Verdict.NO_GO
    assert judgement.outcomes[2].explanation == "m 0.65 [0.6, 0.7] is not at least 0.9"


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(-1, 1))
def test_a_higher_bar_never_turns_a_failure_into_a_pass(low: float, width: float, bar: float) -> None:
    order = [Verdict.NO_GO, Verdict.INCONCLUSIVE, Verdict.GO]
    cell = Cell(estimate=number(low, low + width))
    easier = verdict_of(Rule(benchmark=B, metric="m", min_value=bar), cell).verdict
    harder = verdict_of(Rule(benchmark=B, metric="m", min_value=bar + 0.1), cell).verdict
    assert order.index(harder) <= order.index(easier)


def test_rules_and_policies_that_bound_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="needs min_value"):
        Rule(benchmark=B, metric="m")
    with pytest.raises(ValueError, match="above max_value"):
        Rule(benchmark=B, metric="m", min_value=2, max_value=1)
    with pytest.raises(ValueError, match="at least one rule"):
        Policy(rules=())
    rule = Rule(benchmark=B, metric="m", min_value=0)
    with pytest.raises(ValueError, match="min_scored"):
        Policy(rules=(rule,), min_scored=1)
    with pytest.raises(ValueError, match="finite"):
        Rule(benchmark=B, metric="m", max_loss=float("nan"))
