from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from anneal.kit.policies import policy_digest
from anneal.v1 import evaluation_pb2
from anneal.v1 import registry_service_pb2 as pb
from anneal.v1.adapter_pb2 import AdapterVersion
from anneal.v1.deployment_pb2 import Canary, Deployment
from tests.contract.registry.world import (
    NO_GO,
    POLICY,
    PROJECT,
    RULE,
    Settled,
    World,
    new_id,
    reason,
    refused,
    violation,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAME = f"{PROJECT}/deployments/support-bot"
CLOSED = ("NOT_YET", "GATE_CLOSED")
OTHER_POLICY = evaluation_pb2.Policy(rules=[RULE], min_scored_rows=31)


async def second_version(world: World, settled: Settled, *, passes: bool = True) -> AdapterVersion:
    """Another adapter version over the same base."""
    made = await world.publish(world.new_adapter(settled.model, settled.data, "better weights"))
    if passes:
        await world.evaluate(made, "e2")
    return made


async def deployed(world: World) -> tuple[Settled, Deployment]:
    settled = await world.settled()
    await world.evaluate(settled.adapter)
    return settled, await world.deploy(settled.adapter)


async def update(world: World, deployment: Deployment, *paths: str, **more: Any) -> Deployment:
    request = pb.UpdateDeploymentRequest(deployment=deployment, update_mask=FieldMask(paths=paths), **more)
    return await world.stub.UpdateDeployment(request)


async def test_a_version_with_a_go_is_deployed(world: World) -> None:
    settled, made = await deployed(world)
    assert (made.name, made.adapter_version) == (NAME, settled.adapter.name)
    assert (made.adapter_digest, made.base_model) == (settled.adapter.digest, settled.model.name)
    assert made.base_model_digest == settled.model.digest
    assert (made.evaluation, made.policy_digest) == (f"{PROJECT}/evaluations/e1", policy_digest(POLICY))
    assert made.create_time == made.update_time
    assert await world.stub.GetDeployment(pb.GetDeploymentRequest(name=NAME)) == made
    assert (await world.stub.ListDeployments(pb.ListDeploymentsRequest(parent=PROJECT))).deployments[0] == made


async def test_the_gate_is_closed_to_a_version_nobody_evaluated(world: World) -> None:
    settled = await world.settled()
    refusal = await refused(world.deploy(settled.adapter))
    assert (refusal.kind.name, refusal.reason) == CLOSED
    assert refusal.facts["adapter_version"] == settled.adapter.name
    assert refusal.facts["policy_digest"] == policy_digest(POLICY)


async def test_the_gate_is_closed_to_a_no_go(world: World) -> None:
    settled = await world.settled()
    await world.evaluate(settled.adapter, verdict=NO_GO)
    assert await reason(world.deploy(settled.adapter)) == CLOSED


async def test_the_gate_is_closed_to_a_go_for_another_policy(world: World) -> None:
    settled = await world.settled()
    await world.evaluate(settled.adapter)
    assert await reason(world.deploy(settled.adapter, policy=OTHER_POLICY)) == CLOSED


async def test_the_gate_is_closed_to_the_go_of_another_version(world: World) -> None:
    settled = await world.settled()
    await world.evaluate(settled.adapter)
    other = await second_version(world, settled, passes=False)
    assert await reason(world.deploy(other)) == CLOSED


async def test_the_gate_is_closed_to_the_go_of_another_project(world: World) -> None:
    settled = await world.settled()
    await world.evaluate(settled.adapter)
    given = Deployment(adapter_version=settled.adapter.name, policy=POLICY)
    request = pb.CreateDeploymentRequest(parent="projects/other", deployment_id="d", deployment=given)
    assert await reason(world.stub.CreateDeployment(request)) == CLOSED


async def test_the_same_content_under_another_name_has_passed_too(world: World) -> None:
    settled = await world.settled()
    await world.evaluate(settled.adapter)
    alias = await world.publish(world.new_adapter(settled.model, settled.data), adapter="alias")
    assert (await world.deploy(alias)).adapter_version == alias.name


async def test_latest_is_fixed_when_it_is_deployed(world: World) -> None:
    settled = await world.settled()
    await world.evaluate(settled.adapter)
    made = await world.deploy(settled.adapter, adapter_version=f"{PROJECT}/adapters/bot/versions/latest")
    assert made.adapter_version == settled.adapter.name


async def test_a_deployments_refusals(world: World) -> None:
    settled, _ = await deployed(world)
    assert await reason(world.deploy(settled.adapter)) == ("EXISTS", "DEPLOYMENT_EXISTS")
    nobody = world.deploy(settled.adapter, "other", adapter_version=f"{PROJECT}/adapters/bot/versions/{'0' * 12}")
    assert await reason(nobody) == ("MISSING", "ADAPTER_VERSION_MISSING")
    missing = pb.GetDeploymentRequest(name=f"{PROJECT}/deployments/none")
    assert await reason(world.stub.GetDeployment(missing)) == ("MISSING", "DEPLOYMENT_MISSING")
    lax = [evaluation_pb2.Policy(), evaluation_pb2.Policy(rules=[evaluation_pb2.PolicyRule(benchmark="b", metric="m")])]
    assert await violation(world.deploy(settled.adapter, "other", policy=lax[0])) == "deployment.policy.rules"
    assert await violation(world.deploy(settled.adapter, "other", policy=lax[1])) == "deployment.policy.rules[0]"
    assert await violation(world.deploy(settled.adapter, "Other")) == "deployment_id"


async def test_a_deployment_twice_by_one_request_and_never_by_a_dry_run(world: World) -> None:
    settled = await world.settled()
    await world.evaluate(settled.adapter)
    request = pb.CreateDeploymentRequest(
        parent=PROJECT,
        deployment_id="support-bot",
        deployment=Deployment(adapter_version=settled.adapter.name, policy=POLICY),
        validate_only=True,
    )
    await world.stub.CreateDeployment(request)
    assert not (await world.stub.ListDeployments(pb.ListDeploymentsRequest(parent=PROJECT))).deployments
    request.validate_only, request.request_id = False, new_id()
    first = await world.stub.CreateDeployment(request)
    assert await world.stub.CreateDeployment(request) == first
    request.deployment_id = "other"
    assert await reason(world.stub.CreateDeployment(request)) == ("EXISTS", "REQUEST_ID_REUSED")


async def test_deployments_are_paged_newest_first(world: World) -> None:
    settled = await world.settled()
    await world.evaluate(settled.adapter)
    for i in range(3):
        await world.deploy(settled.adapter, f"d{i}")
    first = await world.stub.ListDeployments(pb.ListDeploymentsRequest(parent=PROJECT, page_size=2))
    rest = pb.ListDeploymentsRequest(parent=PROJECT, page_size=2, page_token=first.next_page_token)
    second = await world.stub.ListDeployments(rest)
    assert [d.name[-2:] for d in [*first.deployments, *second.deployments]] == ["d2", "d1", "d0"]


# -- switching -------------------------------------------------------------------------------------------------------


async def test_a_deployment_is_switched(world: World) -> None:
    settled, before = await deployed(world)
    better = await second_version(world, settled)
    wanted = Deployment(name=NAME, adapter_version=better.name, policy=POLICY, etag=before.etag)
    after = await update(world, wanted, "adapter_version")
    assert (after.adapter_version, after.adapter_digest) == (better.name, better.digest)
    assert after.evaluation == f"{PROJECT}/evaluations/e2"
    assert after.create_time == before.create_time
    assert after.update_time.ToNanoseconds() > before.update_time.ToNanoseconds()
    assert after.etag != before.etag
    assert await world.stub.GetDeployment(pb.GetDeploymentRequest(name=NAME)) == after


async def test_an_old_etag_is_refused(world: World) -> None:
    _, before = await deployed(world)
    await update(world, before, "policy")
    refusal = await refused(update(world, before, "policy"))
    assert (refusal.kind.name, refusal.reason) == ("CONFLICT", "ETAG_MISMATCH")
    now = await world.stub.GetDeployment(pb.GetDeploymentRequest(name=NAME))
    assert refusal.facts["etag"] == now.etag
    before.ClearField("etag")
    await update(world, before, "policy")


async def test_a_switch_goes_through_the_gate_and_leaves_all_as_it_was(world: World) -> None:
    settled, before = await deployed(world)
    untested = await second_version(world, settled, passes=False)
    wanted = Deployment(name=NAME, adapter_version=untested.name, policy=OTHER_POLICY)
    assert await reason(update(world, wanted, "adapter_version")) == CLOSED
    assert await reason(update(world, wanted, "policy")) == CLOSED
    assert await reason(update(world, wanted, "adapter_version", "policy")) == CLOSED
    assert await world.stub.GetDeployment(pb.GetDeploymentRequest(name=NAME)) == before


async def test_only_the_fields_of_the_mask_change(world: World) -> None:
    settled, before = await deployed(world)
    better = await second_version(world, settled)
    wanted = Deployment(name=NAME, adapter_version=better.name, policy=POLICY)
    assert (await update(world, wanted, "policy")).adapter_version == before.adapter_version


async def test_fields_outside_the_mask_may_be_left_out(world: World) -> None:
    settled, before = await deployed(world)
    better = await second_version(world, settled)
    changed = await update(world, Deployment(name=NAME, adapter_version=better.name), "adapter_version")
    assert (changed.adapter_version, changed.policy) == (better.name, before.policy)
    after = await update(world, Deployment(name=NAME), "canary")
    assert after.adapter_version == better.name
    assert await violation(update(world, Deployment(name=NAME), "adapter_version")) == "deployment.adapter_version"
    nameless = evaluation_pb2.Policy(rules=[evaluation_pb2.PolicyRule(min_value=1.0)])
    call = update(world, Deployment(name=NAME, policy=nameless), "policy")
    assert await violation(call) == "deployment.policy.rules[0].benchmark"


async def test_masks_and_names_are_checked(world: World) -> None:
    _, before = await deployed(world)
    assert await violation(update(world, before, "adapter_digest")) == "update_mask"
    assert await violation(update(world, before)) == "update_mask"
    before.name = f"{PROJECT}/deployments/none"
    before.ClearField("etag")
    assert await reason(update(world, before, "policy")) == ("MISSING", "DEPLOYMENT_MISSING")
    before.name = "none"
    assert await violation(update(world, before, "policy")) == "deployment.name"


async def test_a_dry_switch_changes_nothing(world: World) -> None:
    settled, before = await deployed(world)
    better = await second_version(world, settled)
    wanted = Deployment(name=NAME, adapter_version=better.name, policy=POLICY)
    assert (await update(world, wanted, "adapter_version", validate_only=True)).adapter_version == better.name
    assert await world.stub.GetDeployment(pb.GetDeploymentRequest(name=NAME)) == before


# -- canary ----------------------------------------------------------------------------------------------------------


async def test_a_canary_answers_its_share(world: World) -> None:
    settled, before = await deployed(world)
    better = await second_version(world, settled)
    before.canary.CopyFrom(Canary(adapter_version=better.name, percent=30))
    made = await update(world, before, "canary")
    assert (made.canary.adapter_digest, made.canary.evaluation) == (better.digest, f"{PROJECT}/evaluations/e2")
    answers = [
        await world.stub.ResolveDeployment(pb.ResolveDeploymentRequest(name=NAME, split_key=f"user-{i}"))
        for i in range(200)
    ]
    assert {a.adapter_digest for a in answers if a.canary} == {better.digest}
    assert {a.adapter_digest for a in answers if not a.canary} == {settled.adapter.digest}
    # The keys are fixed, so is the split: 30 % of 200 within four standard errors.
    assert 34 <= sum(a.canary for a in answers) <= 86
    again = await world.stub.ResolveDeployment(pb.ResolveDeploymentRequest(name=NAME, split_key="user-7"))
    assert again == answers[7]


async def test_a_canary_is_taken_away(world: World) -> None:
    settled, before = await deployed(world)
    better = await second_version(world, settled)
    before.canary.CopyFrom(Canary(adapter_version=better.name, percent=99))
    made = await update(world, before, "canary")
    made.ClearField("canary")
    after = await update(world, made, "canary")
    assert not after.HasField("canary")
    answer = await world.stub.ResolveDeployment(pb.ResolveDeploymentRequest(name=NAME, split_key="user"))
    assert (answer.adapter_version, answer.canary) == (settled.adapter.name, False)


async def test_a_canary_goes_through_the_same_gate(world: World) -> None:
    settled, before = await deployed(world)
    untested = await second_version(world, settled, passes=False)
    before.canary.CopyFrom(Canary(adapter_version=untested.name, percent=1))
    assert await reason(update(world, before, "canary")) == CLOSED
    canary = Canary(adapter_version=untested.name, percent=1)
    assert await reason(world.deploy(settled.adapter, "other", canary=canary)) == CLOSED


async def test_a_canarys_refusals(world: World) -> None:
    settled, before = await deployed(world)
    better = await second_version(world, settled)
    for percent in (0, 100):
        before.canary.CopyFrom(Canary(adapter_version=better.name, percent=percent))
        assert await violation(update(world, before, "canary")) == "deployment.canary.percent"
    before.canary.CopyFrom(Canary(adapter_version=settled.adapter.name, percent=5))
    assert await violation(update(world, before, "canary")) == "deployment.canary.adapter_version"
    elsewhere = await world.publish(world.new_adapter(await world.model("other"), settled.data, "over another base"))
    await world.evaluate(elsewhere, "e3")
    before.canary.CopyFrom(Canary(adapter_version=elsewhere.name, percent=5))
    assert await reason(update(world, before, "canary")) == ("NOT_YET", "BASE_MODEL_MISMATCH")


async def test_without_a_key_chance_decides(world: World) -> None:
    settled, before = await deployed(world)
    better = await second_version(world, settled)
    before.canary.CopyFrom(Canary(adapter_version=better.name, percent=50))
    await update(world, before, "canary")
    request = pb.ResolveDeploymentRequest(name=NAME)
    sides = {(await world.stub.ResolveDeployment(request)).canary for _ in range(60)}
    assert sides == {True, False}  # one chance in 2 ** 59 that this fails


async def test_resolving_what_is_not_there(world: World) -> None:
    assert await reason(world.stub.ResolveDeployment(pb.ResolveDeploymentRequest(name=NAME))) == (
        "MISSING",
        "DEPLOYMENT_MISSING",
    )
    assert await violation(world.stub.ResolveDeployment(pb.ResolveDeploymentRequest(name="support-bot"))) == "name"


# -- deleting --------------------------------------------------------------------------------------------------------


async def test_a_deployment_is_deleted_and_may_come_again(world: World) -> None:
    settled, made = await deployed(world)
    stale = pb.DeleteDeploymentRequest(name=NAME, etag="stale")
    assert await reason(world.stub.DeleteDeployment(stale)) == ("CONFLICT", "ETAG_MISMATCH")
    await world.stub.DeleteDeployment(pb.DeleteDeploymentRequest(name=NAME, etag=made.etag))
    gone = pb.GetDeploymentRequest(name=NAME)
    assert await reason(world.stub.GetDeployment(gone)) == ("MISSING", "DEPLOYMENT_MISSING")
    again = pb.DeleteDeploymentRequest(name=NAME)
    assert await reason(world.stub.DeleteDeployment(again)) == ("MISSING", "DEPLOYMENT_MISSING")
    assert (await world.deploy(settled.adapter)).name == NAME
