"""The gate: what an adapter must have shown before any app may reach it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from anneal.kit.errors import Invalid
from anneal.registry.domain.errors import GateClosed


class Verdict(StrEnum):
    """The outcome of a policy."""

    UNSPECIFIED = "unspecified"
    GO = "go"
    NO_GO = "no_go"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An adapter version that wants to stand behind a deployment."""

    name: str
    digest: str
    base_model: str
    base_model_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one evaluation found.

    Attributes:
        evaluation: its resource name.
        target_digest: digest of what was judged.
        base_model_digest: digest of the base model that served it.
        policy_digest: digest of the policy it was judged by; empty without a policy.
        verdict: the outcome.
    """

    evaluation: str
    target_digest: str
    base_model_digest: str
    policy_digest: str
    verdict: Verdict


def admit(candidate: Candidate, policy_digest: str, evidence: Iterable[Evidence]) -> str:
    """The evaluation that opens the gate: the first one with a GO for exactly this content and this policy.

    Args:
        candidate: who wants in. Identity is its digest, over the base model of its digest; a name is only an alias.
        policy_digest: digest of the deployment's policy.
        evidence: what evaluations found, newest first.

    Raises:
        GateClosed: there is none; the message says what there is instead.
    """
    near: list[str] = []
    for found in evidence:
        if found.target_digest != candidate.digest or found.base_model_digest != candidate.base_model_digest:
            continue
        if found.policy_digest == policy_digest and found.verdict is Verdict.GO:
            return found.evaluation
        if found.policy_digest == policy_digest:
            near.append(f"{found.evaluation} says {found.verdict.upper()}")
        else:
            near.append(f"{found.evaluation} judged by another policy")
    instead = "; ".join(near[:3]) or "nobody evaluated it"
    raise GateClosed(
        f"{candidate.name} has no GO for this policy: {instead}",
        adapter_version=candidate.name,
        adapter_digest=candidate.digest,
        policy_digest=policy_digest,
        found=instead,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One rule of a policy, as far as the gate cares: `text` is equal for equal rules."""

    text: str
    is_bounded: bool


def check_policy(demands: Sequence[Demand], min_scored_rows: int, field: str) -> None:
    """Check that a policy demands something: one that demands nothing would open the gate to everybody.

    Raises:
        Invalid: no rules, a rule without any bound, or a negative number of rows.
    """
    violations = [
        (f"{field}.rules[{index}]", "demands nothing: give min_value, max_value, min_gain or max_loss")
        for index, demand in enumerate(demands)
        if not demand.is_bounded
    ]
    if not demands:
        violations.append((f"{field}.rules", "a policy needs at least one rule"))
    if min_scored_rows < 0:
        violations.append((f"{field}.min_scored_rows", f"{min_scored_rows} is negative"))
    if violations:
        raise Invalid("; ".join(f"{path}: {text}" for path, text in violations), violations=violations)


def check_verdict(
    demands: Sequence[Demand], outcomes: Sequence[tuple[Demand, Verdict]], verdict: Verdict, field: str
) -> None:
    """Check that a verdict follows from how the rules came out.

    Raises:
        Invalid: a verdict without a policy, a rule without an outcome, an outcome of a rule the policy does not have,
            or another verdict than the outcomes give.
    """
    if not demands:
        if verdict is not Verdict.UNSPECIFIED or outcomes:
            raise Invalid.field(f"{field}.verdict", "there is no policy it could follow from")
        return
    if {demand.text for demand in demands} != {demand.text for demand, _ in outcomes}:
        raise Invalid.field(f"{field}.rule_results", "must have one outcome for every rule of the policy and no other")
    follows = _conclude([outcome for _, outcome in outcomes])
    if verdict is not follows:
        raise Invalid.field(f"{field}.verdict", f"is {verdict.upper()}, but the rules came out {follows.upper()}")


def _conclude(outcomes: Sequence[Verdict]) -> Verdict:
    if Verdict.NO_GO in outcomes:
        return Verdict.NO_GO
    return Verdict.GO if all(outcome is Verdict.GO for outcome in outcomes) else Verdict.INCONCLUSIVE
