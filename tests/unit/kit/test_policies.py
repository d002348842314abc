from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.kit.errors import Invalid
from anneal.kit.policies import policy_digest
from anneal.v1.evaluation_pb2 import Policy, PolicyRule


def rule(benchmark: str = "projects/p/benchmarks/b", metric: str = "exact_match", **bounds: float) -> PolicyRule:
    return PolicyRule(benchmark=benchmark, metric=metric, **bounds)


def test_is_a_digest() -> None:
    digest = policy_digest(Policy(rules=[rule(min_gain=0.0)]))
    assert digest.startswith("sha256:")
    assert len(digest) == 71


def test_never_changes_for_the_same_policy() -> None:
    # Written down: verdicts that are stored carry it.
    policy = Policy(
        rules=[rule(min_value=0.5, min_gain=0.0), rule(metric="token_f1", max_loss=0.01)], min_scored_rows=50
    )
    assert policy_digest(policy) == "sha256:337c4788d2b50d9652a51da4a95cc0e47a8e3378557f112efb1b80b4ac351a2f"


@given(
    st.permutations([rule(metric="a", min_value=0.1), rule(metric="b", min_gain=0.0), rule(metric="c", max_loss=2.0)])
)
def test_the_order_of_rules_makes_no_difference(rules: list[PolicyRule]) -> None:
    ordered = sorted(rules, key=lambda r: r.metric)
    assert policy_digest(Policy(rules=rules)) == policy_digest(Policy(rules=ordered))


def test_a_rule_said_twice_makes_no_difference() -> None:
    once = rule(min_gain=0.0)
    assert policy_digest(Policy(rules=[once, once])) == policy_digest(Policy(rules=[once]))


@pytest.mark.parametrize(
    "other",
    [
        Policy(rules=[rule(min_gain=0.1)]),
        Policy(rules=[rule()]),
        Policy(rules=[rule(min_value=0.0)]),
        Policy(rules=[rule(min_gain=0.0, max_value=1.0)]),
        Policy(rules=[rule(metric="token_f1", min_gain=0.0)]),
        Policy(rules=[rule(benchmark="projects/p/benchmarks/c", min_gain=0.0)]),
        Policy(rules=[rule(min_gain=0.0), rule(metric="token_f1", min_gain=0.0)]),
        Policy(rules=[rule(min_gain=0.0)], min_scored_rows=1),
        Policy(),
    ],
)
def test_another_demand_is_another_digest(other: Policy) -> None:
    assert policy_digest(other) != policy_digest(Policy(rules=[rule(min_gain=0.0)]))


def test_negative_zero_is_zero() -> None:
    assert policy_digest(Policy(rules=[rule(min_gain=-0.0)])) == policy_digest(Policy(rules=[rule(min_gain=0.0)]))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_bound_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(Invalid) as caught:
        policy_digest(Policy(rules=[rule(), rule(max_loss=value)]))
    assert caught.value.violations[0][0] == "policy.rules[1].max_loss"
