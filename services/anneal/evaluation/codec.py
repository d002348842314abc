"""The contract's messages as the domain's values, and back."""

from __future__ import annotations

from typing import Literal

from google.longrunning import operations_pb2

from anneal.evaluation.domain.estimates import Estimate
from anneal.evaluation.domain.metric import Better
from anneal.evaluation.domain.metrics import METRICS
from anneal.evaluation.domain.plan import Target
from anneal.evaluation.domain.policy import DEFAULT_MIN_SCORED, Judgement, Policy, Rule, RuleOutcome, Verdict
from anneal.kit import names
from anneal.kit.errors import Invalid
from anneal.v1 import evaluation_pb2 as pb

_VERDICTS = {
    Verdict.GO: pb.VERDICT_GO,
    Verdict.NO_GO: pb.VERDICT_NO_GO,
    Verdict.INCONCLUSIVE: pb.VERDICT_INCONCLUSIVE,
}
_BOUNDS: tuple[Literal["min_value", "max_value", "min_gain", "max_loss"], ...] = (
    "min_value",
    "max_value",
    "min_gain",
    "max_loss",
)


def decode_policy(policy: pb.Policy) -> Policy:
    """A policy as its rules.

    Raises:
        Invalid: a rule names no benchmark or metric, or bounds nothing; or there is none.
    """
    rules = tuple(_decode_rule(rule, f"policy.rules[{index}]") for index, rule in enumerate(policy.rules))
    try:
        return Policy(rules=rules, min_scored=policy.min_scored_rows or DEFAULT_MIN_SCORED)
    except ValueError as error:
        raise Invalid.field("policy", str(error)) from None


def _decode_rule(rule: pb.PolicyRule, field: str) -> Rule:
    names.parse(rule.benchmark, "benchmark", f"{field}.benchmark")
    if rule.metric not in METRICS:
        raise Invalid.field(f"{field}.metric", f"{rule.metric!r} is none of {', '.join(sorted(METRICS))}")
    bounds = {name: getattr(rule, name) for name in _BOUNDS if rule.HasField(name)}
    try:
        return Rule(benchmark=rule.benchmark, metric=rule.metric, **bounds)
    except ValueError as error:
        raise Invalid.field(field, str(error)) from None


def encode_rule(rule: Rule) -> pb.PolicyRule:
    """A rule as it was given."""
    return pb.PolicyRule(
        benchmark=rule.benchmark,
        metric=rule.metric,
        min_value=rule.min_value,
        max_value=rule.max_value,
        min_gain=rule.min_gain,
        max_loss=rule.max_loss,
    )


def encode_estimate(estimate: Estimate) -> pb.Estimate:
    """A number; what is unknown stays absent."""
    return pb.Estimate(
        value=estimate.value,
        stderr=estimate.stderr,
        ci_low=estimate.low,
        ci_high=estimate.high,
        scored_count=estimate.scored,
        unscored_count=estimate.unscored,
        group_count=estimate.groups,
    )


def encode_result(
    benchmark: str, metric: str, number: Estimate, gain: Estimate | None, baseline: Estimate | None
) -> pb.MetricResult:
    """One metric of one benchmark."""
    return pb.MetricResult(
        benchmark=benchmark,
        metric=metric,
        estimate=encode_estimate(number),
        gain=None if gain is None else encode_estimate(gain),
        baseline=None if baseline is None else encode_estimate(baseline),
        higher_is_better=METRICS[metric].better is Better.HIGHER,
    )


def encode_preview(name: str, target: Target) -> operations_pb2.Operation:
    """The answer to an order that was only checked: nothing was started, so the operation has no name."""
    evaluation = pb.Evaluation(
        name=name, target=target.name, target_digest=target.digest, base_model_digest=target.base_digest
    )
    operation = operations_pb2.Operation(done=True)
    operation.response.Pack(evaluation)
    return operation


def encode_judgement(judgement: Judgement) -> tuple[pb.Verdict.ValueType, list[pb.RuleResult]]:
    """A verdict and the outcome of each rule."""
    return _VERDICTS[judgement.verdict], [_encode_outcome(outcome) for outcome in judgement.outcomes]


def _encode_outcome(outcome: RuleOutcome) -> pb.RuleResult:
    return pb.RuleResult(
        rule=encode_rule(outcome.rule), verdict=_VERDICTS[outcome.verdict], explanation=outcome.explanation
    )
