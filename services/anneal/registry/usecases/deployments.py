"""Deployments: the only resources that change, always through the gate."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from anneal.kit.errors import Invalid
from anneal.kit.names import check_id, parse, project_of
from anneal.kit.policies import policy_digest
from anneal.registry import codec
from anneal.registry.adapters.sql.transactions import Reader, Writer
from anneal.registry.domain.canary import check_percent, is_canary, side_of
from anneal.registry.domain.errors import EtagMismatch
from anneal.registry.domain.gate import Candidate, admit, check_policy
from anneal.registry.domain.publishing import check_same_base
from anneal.registry.domain.resources import Kind, Record, microseconds
from anneal.registry.usecases.house import Draft, House, create
from anneal.v1.deployment_pb2 import Deployment
from anneal.v1.registry_service_pb2 import (
    CreateDeploymentRequest,
    DeleteDeploymentRequest,
    ResolveDeploymentRequest,
    ResolveDeploymentResponse,
    UpdateDeploymentRequest,
)

CHANGEABLE = ("adapter_version", "policy", "canary")


async def create_deployment(house: House, request: CreateDeploymentRequest) -> Deployment:
    """Give apps a name for an adapter version that passed the gate.

    Raises:
        GateClosed: it, or the canary, has no GO for the policy.
        AdapterVersionMissing: it does not exist.
    """
    parse(request.parent, "project", "parent")
    given = request.deployment
    name = f"{request.parent}/deployments/{check_id(request.deployment_id, 'deployment_id')}"

    async def draft(tx: Writer, now: datetime) -> Draft:
        deployment = Deployment(name=name)
        _take(deployment, given, CHANGEABLE)
        await pass_gate(tx, deployment)
        deployment.update_time.FromDatetime(now)
        return Draft(record=codec.record_of(Kind.DEPLOYMENT, deployment, now))

    answer: Deployment = await create(house, request, draft)
    return answer


async def update_deployment(house: House, request: UpdateDeploymentRequest) -> Deployment:
    """Switch a deployment in one transaction.

    Raises:
        EtagMismatch: it was changed since the caller read it.
        GateClosed: a version it would name has no GO for its policy.
        DeploymentMissing: there is none of that name.
        Invalid: the mask is empty or names a field that cannot be changed.
    """
    given = request.deployment
    parse(given.name, "deployment", "deployment.name")
    paths = list(request.update_mask.paths)
    unknown = [path for path in paths if path not in CHANGEABLE]
    if unknown or not paths:
        what = f"{unknown[0]!r} cannot be changed" if unknown else "is empty"
        raise Invalid.field("update_mask", f"{what}; there are {', '.join(CHANGEABLE)}")

    async def unit(tx: Writer) -> Record:
        current = await tx.get(Kind.DEPLOYMENT, given.name, for_update=True)
        _check_etag(current, given.etag)
        now = house.now()
        deployment = Deployment.FromString(current.body)
        _take(deployment, given, paths)
        await pass_gate(tx, deployment)
        deployment.update_time.FromDatetime(now)
        revision = max(microseconds(now), current.revision + 1)
        changed = codec.record_of(Kind.DEPLOYMENT, deployment, current.create_time, revision)
        await tx.replace(changed, codec.note_of(changed))
        return changed

    changed = await house.catalog.change(unit, dry=request.validate_only)
    await house.flush()
    answer: Deployment = codec.encode(changed)
    return answer


async def delete_deployment(house: House, request: DeleteDeploymentRequest) -> None:
    """Take a deployment's name away from apps; the adapter stays.

    Raises:
        EtagMismatch: it was changed since the caller read it.
        DeploymentMissing: there is none of that name.
    """
    parse(request.name, "deployment")

    async def unit(tx: Writer) -> None:
        current = await tx.get(Kind.DEPLOYMENT, request.name, for_update=True)
        _check_etag(current, request.etag)
        revision = max(microseconds(house.now()), current.revision + 1)
        gone = codec.record_of(Kind.DEPLOYMENT, Deployment.FromString(current.body), current.create_time, revision)
        await tx.remove(gone, codec.note_of(gone, deleted=True))

    await house.catalog.change(unit)
    await house.flush()


async def resolve_deployment(house: House, request: ResolveDeploymentRequest) -> ResolveDeploymentResponse:
    """Find who answers a request, the canary's share counted in.

    Raises:
        DeploymentMissing: there is none of that name.
    """
    parse(request.name, "deployment")
    async with house.catalog.read() as tx:
        deployment: Deployment = codec.encode(await tx.get(Kind.DEPLOYMENT, request.name))
    side = side_of(request.name, request.split_key) if request.split_key else house.draw()
    on_trial = deployment.HasField("canary") and is_canary(side, deployment.canary.percent)
    chosen = deployment.canary if on_trial else deployment
    return ResolveDeploymentResponse(
        deployment=deployment,
        adapter_version=chosen.adapter_version,
        adapter_digest=chosen.adapter_digest,
        base_model_digest=deployment.base_model_digest,
        canary=on_trial,
    )


def _take(deployment: Deployment, given: Deployment, paths: Sequence[str]) -> None:
    """Take the named fields over; one that is not given is cleared."""
    if "adapter_version" in paths:
        deployment.adapter_version = given.adapter_version
    if "policy" in paths:
        deployment.policy.CopyFrom(given.policy)
    if "canary" in paths:
        deployment.ClearField("canary")
        if given.HasField("canary"):
            deployment.canary.adapter_version = given.canary.adapter_version
            deployment.canary.percent = given.canary.percent


async def pass_gate(tx: Reader, deployment: Deployment) -> None:
    """Fill in what the registry knows, when every version the deployment names may stand behind it."""
    demands = [codec.demand_of(rule) for rule in deployment.policy.rules]
    check_policy(demands, deployment.policy.min_scored_rows, "deployment.policy")
    project = project_of(deployment.name)
    deployment.policy_digest = policy_digest(deployment.policy)
    main = await _candidate(tx, deployment.adapter_version, "deployment.adapter_version")
    deployment.evaluation = admit(main, deployment.policy_digest, await tx.evidence(project, main.digest))
    deployment.adapter_version = main.name
    deployment.adapter_digest = main.digest
    deployment.base_model = main.base_model
    deployment.base_model_digest = main.base_model_digest
    if not deployment.HasField("canary"):
        return
    canary = deployment.canary
    check_percent(canary.percent, "deployment.canary.percent")
    trial = await _candidate(tx, canary.adapter_version, "deployment.canary.adapter_version")
    if trial.digest == main.digest:
        raise Invalid.field("deployment.canary.adapter_version", "is the version it would be compared with")
    check_same_base(main.base_model_digest, trial.base_model_digest)
    canary.evaluation = admit(trial, deployment.policy_digest, await tx.evidence(project, trial.digest))
    canary.adapter_version = trial.name
    canary.adapter_digest = trial.digest


async def _candidate(tx: Reader, name: str, field: str) -> Candidate:
    parse(name, "adapter_version", field)
    record = await tx.get(Kind.ADAPTER_VERSION, name)
    return Candidate(
        name=record.name,
        digest=str(record.facts["digest"]),
        base_model=str(record.facts["base_model"]),
        base_model_digest=str(record.facts["base_model_digest"]),
    )


def _check_etag(current: Record, etag: str) -> None:
    if etag and etag != current.etag:
        raise EtagMismatch(
            f"{current.name} was changed since you read it: its etag is {current.etag}, not {etag}",
            name=current.name,
            etag=current.etag,
        )
