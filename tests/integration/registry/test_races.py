"""Many callers at once, at two registries that share a database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from pydantic import SecretStr

from anneal.kit.options import StoreOptions
from anneal.kit.rpc.status import refusal_of
from anneal.kit.settings import ServiceSettings
from anneal.kit.testing import hosted
from anneal.registry.bootstrap import build
from anneal.v1 import registry_service_pb2 as pb
from anneal.v1.dataset_pb2 import Dataset, DatasetVersion
from anneal.v1.deployment_pb2 import Deployment
from tests.contract.registry.world import CONVERSATION, POLICY, PROJECT, World, new_id

MANY = 20


@asynccontextmanager
async def replica(of: ServiceSettings, folder: Path) -> AsyncIterator[World]:
    """A second registry on the same database and store."""
    settings = ServiceSettings(
        data_dir=folder, database_url=SecretStr(of.sql_url("registry")), store=StoreOptions(url=of.store_url())
    )
    async with hosted(folder, [build], settings=settings) as host:
        yield World.on(host)


@pytest.fixture
async def two(world: World, settings: ServiceSettings, tmp_path: Path) -> AsyncIterator[tuple[World, World]]:
    async with replica(settings, tmp_path / "second") as other:
        yield world, other


async def outcomes(calls: list[Awaitable[Any]]) -> tuple[list[Any], Counter[str]]:
    """The answers of all calls at once, and the reasons of those that were refused."""
    answers: list[Any] = []
    reasons: Counter[str] = Counter()
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, grpc.RpcError):
            refusal = refusal_of(result)
            assert refusal is not None, result
            reasons[refusal.reason] += 1
        elif isinstance(result, BaseException):
            raise result
        else:
            answers.append(result)
    return answers, reasons


def spread(two: tuple[World, World], call: Callable[[World, int], Awaitable[Any]]) -> list[Awaitable[Any]]:
    """`MANY` calls, every other one at the second registry."""
    return [call(two[i % 2], i) for i in range(MANY)]


async def test_a_name_is_given_to_one_of_many(two: tuple[World, World]) -> None:
    def create(world: World, i: int) -> Awaitable[Dataset]:
        dataset = Dataset(name="-", kind=CONVERSATION, description=str(i))
        return world.stub.CreateDataset(pb.CreateDatasetRequest(parent=PROJECT, dataset_id="qa", dataset=dataset))

    answers, reasons = await outcomes(spread(two, create))
    assert (len(answers), reasons) == (1, {"DATASET_EXISTS": MANY - 1})
    assert await two[1].stub.GetDataset(pb.GetDatasetRequest(name=answers[0].name)) == answers[0]


async def test_one_request_sent_many_times_is_done_once(two: tuple[World, World]) -> None:
    request = pb.CreateDatasetRequest(
        parent=PROJECT, dataset_id="qa", dataset=Dataset(name="-", kind=CONVERSATION), request_id=new_id()
    )
    answers, reasons = await outcomes(spread(two, lambda world, _: world.stub.CreateDataset(request)))
    assert not reasons
    assert len({answer.SerializeToString(deterministic=True) for answer in answers}) == 1


async def test_many_versions_found_one_family(two: tuple[World, World]) -> None:
    manifests = [two[0].manifest([f"t{i}"]) for i in range(MANY)]
    answers, reasons = await outcomes(spread(two, lambda world, i: world.dataset_version(manifests[i])))
    assert not reasons
    assert len({answer.name for answer in answers}) == MANY
    page = await two[0].stub.ListDatasetVersions(pb.ListDatasetVersionsRequest(parent=f"{PROJECT}/datasets/qa"))
    assert len(page.dataset_versions) == MANY
    family = await two[1].stub.GetDataset(pb.GetDatasetRequest(name=f"{PROJECT}/datasets/qa"))
    assert family.latest_version == page.dataset_versions[0].name


async def test_the_same_version_many_times_is_one(two: tuple[World, World]) -> None:
    manifest = two[0].manifest()

    def create(world: World, i: int) -> Awaitable[DatasetVersion]:
        return world.dataset_version(manifest, operation=f"{PROJECT}/operations/o{i}")

    answers, reasons = await outcomes(spread(two, create))
    assert not reasons
    assert len({answer.SerializeToString(deterministic=True) for answer in answers}) == 1


async def test_of_many_switches_with_one_etag_one_wins(two: tuple[World, World]) -> None:
    settled = await two[0].settled()
    await two[0].evaluate(settled.adapter)
    before = await two[0].deploy(settled.adapter)

    def switch(world: World, _: int) -> Awaitable[Deployment]:
        return world.stub.UpdateDeployment(
            pb.UpdateDeploymentRequest(deployment=before, update_mask=FieldMask(paths=["policy"]))
        )

    answers, reasons = await outcomes(spread(two, switch))
    assert (len(answers), reasons) == (1, {"ETAG_MISMATCH": MANY - 1})
    assert await two[1].stub.GetDeployment(pb.GetDeploymentRequest(name=before.name)) == answers[0]


async def test_switches_without_an_etag_happen_one_after_the_other(two: tuple[World, World]) -> None:
    settled = await two[0].settled()
    await two[0].evaluate(settled.adapter)
    made = await two[0].deploy(settled.adapter)

    def switch(world: World, _: int) -> Awaitable[Deployment]:
        given = Deployment(name=made.name, policy=POLICY)
        return world.stub.UpdateDeployment(
            pb.UpdateDeploymentRequest(deployment=given, update_mask=FieldMask(paths=["policy"]))
        )

    answers, reasons = await outcomes(spread(two, switch))
    assert not reasons
    assert len(answers) == MANY
    records = [path for path, _ in two[0].store.records("deployment")]
    assert len(records) == MANY + 1  # every switch was one of its own, and is told in the store


async def test_readers_see_a_deployment_whole_while_it_is_switched(two: tuple[World, World]) -> None:
    settled = await two[0].settled()
    await two[0].evaluate(settled.adapter)
    other = await two[0].publish(two[0].new_adapter(settled.model, settled.data, "other"))
    await two[0].evaluate(other, "e2")
    made = await two[0].deploy(settled.adapter)
    versions = {settled.adapter.name: settled.adapter.digest, other.name: other.digest}

    async def switch() -> None:
        for name in list(versions) * 5:
            given = Deployment(name=made.name, adapter_version=name)
            await two[0].stub.UpdateDeployment(
                pb.UpdateDeploymentRequest(deployment=given, update_mask=FieldMask(paths=["adapter_version"]))
            )

    async def read() -> None:
        for _ in range(20):
            answer = await two[1].stub.ResolveDeployment(pb.ResolveDeploymentRequest(name=made.name))
            assert versions[answer.adapter_version] == answer.adapter_digest == answer.deployment.adapter_digest

    await asyncio.gather(switch(), read(), read())
