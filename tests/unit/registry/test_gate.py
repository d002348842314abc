from __future__ import annotations

from dataclasses import replace

import pytest

from anneal.kit.errors import Invalid
from anneal.registry.domain.errors import GateClosed
from anneal.registry.domain.gate import Candidate, Demand, Evidence, Verdict, admit, check_policy, check_verdict

CANDIDATE = Candidate(
    name="projects/p/adapters/a/versions/aaaaaaaaaaaa", digest="sha256:a", base_model="m", base_model_digest="sha256:m"
)
POLICY = "sha256:policy"
GO = Evidence(
    evaluation="projects/p/evaluations/e",
    target_digest="sha256:a",
    base_model_digest="sha256:m",
    policy_digest=POLICY,
    verdict=Verdict.GO,
)


def test_a_go_for_this_content_and_policy_opens_it() -> None:
    assert admit(CANDIDATE, POLICY, [GO]) == GO.evaluation


def test_the_newest_of_several_is_named() -> None:
    older = replace(GO, evaluation="projects/p/evaluations/older")
    assert admit(CANDIDATE, POLICY, [GO, older]) == GO.evaluation


def test_a_go_opens_it_also_beside_other_findings() -> None:
    others = [replace(GO, verdict=Verdict.NO_GO), replace(GO, policy_digest="sha256:other")]
    assert admit(CANDIDATE, POLICY, [*others, GO]) == GO.evaluation


@pytest.mark.parametrize(
    ("evidence", "found"),
    [
        ([], "nobody evaluated it"),
        ([replace(GO, verdict=Verdict.NO_GO)], "says NO_GO"),
        ([replace(GO, verdict=Verdict.INCONCLUSIVE)], "says INCONCLUSIVE"),
        ([replace(GO, verdict=Verdict.UNSPECIFIED, policy_digest="")], "another policy"),
        ([replace(GO, policy_digest="sha256:weaker")], "another policy"),
        ([replace(GO, target_digest="sha256:b")], "nobody evaluated it"),
        ([replace(GO, base_model_digest="sha256:n")], "nobody evaluated it"),
    ],
)
def test_it_stays_closed(evidence: list[Evidence], found: str) -> None:
    with pytest.raises(GateClosed) as caught:
        admit(CANDIDATE, POLICY, evidence)
    assert found in caught.value.facts["found"]
    assert caught.value.facts["adapter_version"] == CANDIDATE.name


def test_an_empty_policy_is_not_opened_by_an_evaluation_without_policy() -> None:
    # `policy_digest` of a deployment is never empty, and a verdict without a policy is never a GO: both must hold.
    with pytest.raises(GateClosed):
        admit(CANDIDATE, "", [replace(GO, policy_digest="", verdict=Verdict.UNSPECIFIED)])


A, B = Demand(text="a", is_bounded=True), Demand(text="b", is_bounded=True)


def test_a_policy_with_a_bounded_rule_demands_something() -> None:
    check_policy([A], 0, "policy")


@pytest.mark.parametrize(
    ("demands", "min_scored_rows", "field"),
    [
        ([], 0, "policy.rules"),
        ([A, Demand(text="c", is_bounded=False)], 0, "policy.rules[1]"),
        ([A], -1, "policy.min_scored_rows"),
    ],
)
def test_a_policy_that_demands_nothing_is_refused(demands: list[Demand], min_scored_rows: int, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_policy(demands, min_scored_rows, "policy")
    assert [path for path, _ in caught.value.violations] == [field]


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([(A, Verdict.GO), (B, Verdict.GO)], Verdict.GO),
        ([(A, Verdict.GO), (B, Verdict.NO_GO)], Verdict.NO_GO),
        ([(A, Verdict.INCONCLUSIVE), (B, Verdict.NO_GO)], Verdict.NO_GO),
        ([(A, Verdict.INCONCLUSIVE), (B, Verdict.GO)], Verdict.INCONCLUSIVE),
        ([(A, Verdict.UNSPECIFIED), (B, Verdict.GO)], Verdict.INCONCLUSIVE),
    ],
)
def test_a_verdict_follows_from_the_rules(outcomes: list[tuple[Demand, Verdict]], verdict: Verdict) -> None:
    check_verdict([A, B], outcomes, verdict, "evaluation")
    for other in set(Verdict) - {verdict}:
        with pytest.raises(Invalid, match=r"evaluation\.verdict"):
            check_verdict([A, B], outcomes, other, "evaluation")


@pytest.mark.parametrize(
    "outcomes", [[], [(A, Verdict.GO)], [(A, Verdict.GO), (Demand(text="c", is_bounded=True), Verdict.GO)]]
)
def test_a_go_needs_the_outcome_of_every_rule(outcomes: list[tuple[Demand, Verdict]]) -> None:
    with pytest.raises(Invalid, match="rule_results"):
        check_verdict([A, B], outcomes, Verdict.GO, "evaluation")


def test_without_a_policy_there_is_no_verdict() -> None:
    check_verdict([], [], Verdict.UNSPECIFIED, "evaluation")
    with pytest.raises(Invalid, match="no policy"):
        check_verdict([], [], Verdict.GO, "evaluation")
