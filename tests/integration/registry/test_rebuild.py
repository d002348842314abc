"""The registry is rebuilt from the object store alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from pydantic import SecretStr

from anneal.kit.options import StoreOptions
from anneal.kit.settings import ServiceSettings
from anneal.kit.store import Store
from anneal.kit.testing import hosted
from anneal.registry.adapters.sql.catalog import Catalog
from anneal.registry.bootstrap import build
from anneal.registry.domain.errors import NotEmpty
from anneal.registry.rebuild import Report, rebuild
from anneal.v1 import registry_service_pb2 as pb
from anneal.v1.deployment_pb2 import Canary, Deployment
from tests.contract.registry.world import PROJECT, World

LINEAGE = pb.GetLineageRequest(name=f"{PROJECT}/deployments/support-bot")


def changing(deployment: Deployment, path: str) -> pb.UpdateDeploymentRequest:
    return pb.UpdateDeploymentRequest(deployment=deployment, update_mask=FieldMask(paths=[path]))


async def fill(world: World) -> None:
    """One of everything; a deployment that was switched, and one that is gone."""
    docs = await world.dataset_version(world.documents("a"), "docs")
    data = await world.dataset_version(world.manifest(["a"], test=["b"], removed=["a"]), parents=[docs.name])
    model = await world.model()
    await world.benchmark(data)
    first = await world.publish(world.new_adapter(model, data))
    second = await world.publish(world.new_adapter(model, data, "second"))
    await world.evaluate(first)
    await world.evaluate(second, "e2")
    made = await world.deploy(first)
    made.canary.CopyFrom(Canary(adapter_version=second.name, percent=10))
    await world.stub.UpdateDeployment(changing(made, "canary"))
    gone = await world.deploy(first, "gone")
    await world.stub.DeleteDeployment(pb.DeleteDeploymentRequest(name=gone.name))


async def everything(world: World) -> dict[str, list[Any]]:
    """All that a client can see."""
    stub = world.stub
    seen: dict[str, list[Any]] = {
        "datasets": list((await stub.ListDatasets(pb.ListDatasetsRequest(parent=PROJECT))).datasets),
        "models": list((await stub.ListModels(pb.ListModelsRequest(parent=PROJECT))).models),
        "adapters": list((await stub.ListAdapters(pb.ListAdaptersRequest(parent=PROJECT))).adapters),
        "benchmarks": list((await stub.ListBenchmarks(pb.ListBenchmarksRequest(parent=PROJECT))).benchmarks),
        "evaluations": list((await stub.ListEvaluations(pb.ListEvaluationsRequest(parent=PROJECT))).evaluations),
        "deployments": list((await stub.ListDeployments(pb.ListDeploymentsRequest(parent=PROJECT))).deployments),
        "lineage": [await stub.GetLineage(LINEAGE)],
    }
    for family in seen["datasets"]:
        versions = await stub.ListDatasetVersions(pb.ListDatasetVersionsRequest(parent=family.name))
        seen[family.name] = list(versions.dataset_versions)
    bot = await stub.ListAdapterVersions(pb.ListAdapterVersionsRequest(parent=f"{PROJECT}/adapters/bot"))
    return {**seen, "adapter_versions": list(bot.adapter_versions)}


def beside(settings: ServiceSettings, folder: Path) -> ServiceSettings:
    """The settings of a registry with an empty SQLite database on the same store."""
    return ServiceSettings(
        data_dir=folder,
        database_url=SecretStr(f"sqlite+aiosqlite:///{folder / 'rebuilt.db'}"),
        store=StoreOptions(url=settings.store_url()),
    )


async def rebuilt(settings: ServiceSettings) -> Report:
    catalog = Catalog(settings.sql_url("registry"))
    try:
        return await rebuild(catalog, Store(settings.store_url(), settings.data_dir / "cache"))
    finally:
        await catalog.close()


async def test_what_was_seen_is_seen_again(world: World, settings: ServiceSettings, tmp_path: Path) -> None:
    await fill(world)
    before = await everything(world)
    copy = beside(settings, tmp_path / "copy")
    report = await rebuilt(copy)
    assert report.left_out == []
    assert dict(report.kept) == {
        "dataset": 2,
        "dataset_version": 2,
        "model": 1,
        "adapter": 1,
        "adapter_version": 2,
        "benchmark": 1,
        "evaluation": 2,
        "deployment": 1,
    }
    async with hosted(copy.data_dir, [build], settings=copy) as host:
        again = World.on(host)
        assert await everything(again) == before
        # And life goes on: etags still hold, the gate still knows, and a name that was given up can be taken.
        made = before["deployments"][0]
        await again.stub.UpdateDeployment(changing(Deployment(name=made.name, etag=made.etag), "canary"))
        await again.deploy(before["adapter_versions"][0], "gone")


async def test_a_registry_that_holds_something_is_left_alone(world: World, settings: ServiceSettings) -> None:
    await fill(world)
    with pytest.raises(NotEmpty):
        await rebuilt(settings)


async def test_what_is_not_whole_does_not_come_back(world: World, settings: ServiceSettings, tmp_path: Path) -> None:
    await fill(world)
    model = (await world.stub.ListModels(pb.ListModelsRequest(parent=PROJECT))).models[0]
    blob = model.digest[7:]
    (Path(settings.store_url()) / "blobs" / blob[:2] / blob).unlink()
    world.store.put_record("dataset/strange", {"format": "other"})
    world.store.put_record("trainings/p/0123", {"format": "anneal-finished-training/1"})
    world.store.put_record("answers/p/0123", {"format": "anneal-answers/1"})
    report = await rebuilt(beside(settings, tmp_path / "copy"))
    left_out = dict(report.left_out)
    assert "dataset/strange" in left_out
    assert not any(path.startswith(("trainings/", "answers/")) for path in left_out)
    assert "not in the store" in next(why for path, why in left_out.items() if path.startswith("model/"))
    # What stands on the model falls with it: its adapter versions, and the deployment of them.
    assert (report.kept["model"], report.kept["adapter_version"], report.kept["deployment"]) == (0, 0, 0)
    assert report.kept["dataset_version"] == 2


async def test_the_command_says_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with hosted(tmp_path, [build], settings=ServiceSettings(data_dir=tmp_path)) as host:
        await fill(World.on(host))
    monkeypatch.setenv("ANNEAL_DATA_DIR", str(tmp_path))
    command = [sys.executable, "-m", "anneal.registry.rebuild"]
    full = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (full.returncode, full.stdout) == (2, "")
    assert full.stderr == "rebuild: the registry is not empty; a rebuild would mix two histories\n"
    for file in tmp_path.glob("registry.db*"):
        file.unlink()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "deployment: 1" in done.stdout
