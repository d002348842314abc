"""The identity of a policy: evaluation stamps its verdicts with it, and the registry's gate compares it."""

from __future__ import annotations

from typing import Any, Literal

from anneal.kit.digests import canonical_json, digest_of
from anneal.kit.errors import Invalid
from anneal.v1.evaluation_pb2 import Policy, PolicyRule

_BOUNDS: tuple[Literal["min_value", "max_value", "min_gain", "max_loss"], ...] = (
    "min_value",
    "max_value",
    "min_gain",
    "max_loss",
)


def policy_digest(policy: Policy) -> str:
    """`sha256:<hex>` of what a policy demands.

    The order of the rules and a rule said twice make no difference; a bound that is absent differs from one that is 0,
    and `-0.0` does not differ from `0.0`.

    Raises:
        Invalid: a bound is NaN or infinite.
    """
    rules = {canonical_json(_demand(rule, index)): _demand(rule, index) for index, rule in enumerate(policy.rules)}
    return digest_of({"rules": [rules[key] for key in sorted(rules)], "min_scored_rows": policy.min_scored_rows})


def _demand(rule: PolicyRule, index: int) -> dict[str, Any]:
    demand: dict[str, Any] = {"benchmark": rule.benchmark, "metric": rule.metric}
    for bound in _BOUNDS:
        if rule.HasField(bound):
            value = getattr(rule, bound) + 0.0
            if value - value != 0.0:
                raise Invalid.field(f"policy.rules[{index}].{bound}", "is not a finite number")
            demand[bound] = value
    return demand
