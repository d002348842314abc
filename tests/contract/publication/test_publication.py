"""The registry is away when jobs want to publish: every kind of job that publishes waits, and none works again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message

from anneal.curation.bootstrap import build as build_curation
from anneal.evaluation.bootstrap import build as build_evaluation
from anneal.ingestion.bootstrap import build as build_ingestion
from anneal.kit.datasets import DatasetWriter
from anneal.kit.digests import version_id
from anneal.kit.jobs import codec
from anneal.kit.jobs.states import State
from anneal.kit.options import GrpcOptions, JobOptions, StoreOptions
from anneal.kit.records import conversation, to_table
from anneal.kit.rpc.channels import open_aio_channel
from anneal.kit.rpc.server import Host
from anneal.kit.runtime import JobKind, Runtime, Service
from anneal.kit.settings import ServiceSettings
from anneal.kit.store import Store
from anneal.kit.testing import ALL, hosted
from anneal.registry.bootstrap import build as build_registry
from anneal.synthesis.bootstrap import build as build_synthesis
from anneal.training.adapters.registry import Registry
from anneal.training.bootstrap import build as build_training
from anneal.v1 import adapter_pb2, dataset_pb2, evaluation_pb2, job_service_pb2, model_pb2
from anneal.v1 import registry_service_pb2 as pb
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub
from tests.contract.training.scoring import free_port

PROJECT = "projects/p"
BUILDS: tuple[Callable[[Runtime], Service], ...] = (
    build_ingestion,
    build_synthesis,
    build_curation,
    build_training,
    build_evaluation,
)
PARITY = adapter_pb2.ParityCertificate(
    passed=True, sample_count=1, token_count=9, token_ids_equal=True, tolerance=1e-5, dtype="float32"
)


def dataset(store: Store, name: str) -> dataset_pb2.DatasetVersion:
    """A version of a dataset with one row."""
    writer = DatasetWriter(store, "conversation")
    rows = [[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]]
    writer.add(to_table("conversation", [conversation(row, source="test") for row in rows]), split="train")
    digest = writer.finish(rows_in=1).digest
    return dataset_pb2.DatasetVersion(
        name=f"{PROJECT}/datasets/{name}/versions/{version_id(digest)}",
        digest=digest,
        kind=dataset_pb2.DATASET_KIND_CONVERSATION,
    )


def results(store: Store, base: model_pb2.Model, trained_on: str) -> dict[str, Message]:
    """What the body of each kind of job hands over, by kind."""
    files = store.put_bytes(b"files")
    adapter = adapter_pb2.AdapterVersion(
        name=f"{PROJECT}/adapters/train/versions/{version_id(files)}",
        digest=files,
        base_model=base.name,
        base_model_digest=base.digest,
        rank=4,
        alpha=8,
        target_modules=["q_proj"],
        dataset_versions=[trained_on],
        method="lora",
        parity=PARITY,
    )
    evaluation = evaluation_pb2.Evaluation(
        name=f"{PROJECT}/evaluations/evaluate",
        target=base.name,
        target_digest=base.digest,
        base_model_digest=base.digest,
        rows_digest=store.put_bytes(b"rows"),
    )
    model = model_pb2.Model(name=f"{PROJECT}/models/import-model", digest=store.put_bytes(b"model"))
    return {
        **{kind: dataset(store, kind) for kind in ("ingest", "import", "synthesize", "curate")},
        "train": adapter,
        "evaluate": evaluation,
        "import_model": model,
    }


@asynccontextmanager
async def registry_at(folder: Path, port: int, store: StoreOptions) -> AsyncIterator[Any]:
    settings = ServiceSettings(data_dir=folder, grpc=GrpcOptions(port=port, drain_s=0.1), store=store)
    async with hosted(folder, [build_registry], settings=settings) as host, open_aio_channel(host.address) as channel:
        yield RegistryServiceStub(channel)


def finished_already(build: Callable[[Runtime], Service], told: dict[str, Message], kinds: dict[str, JobKind]) -> Any:
    """A service whose jobs that publish have done their work."""

    def change(kind: JobKind) -> JobKind:
        if kind.publish is None:
            return kind
        kinds[kind.name] = kind
        packed = any_pb2.Any()
        packed.Pack(told[kind.name])
        options = {"result": packed.SerializeToString().hex()}
        return replace(kind, body="tests.contract.publication.bodies:finished", options=lambda: options)

    def built(runtime: Runtime) -> Service:
        service = build(runtime)
        return replace(service, kinds=tuple(change(kind) for kind in service.kinds))

    return built


async def shown(host: Host, name: str) -> tuple[State, job_service_pb2.JobMetadata, operations_pb2.Operation]:
    job = await host.jobs.store.get(name)
    operation, found = codec.encode_operation(job), job_service_pb2.JobMetadata()
    operation.metadata.Unpack(found)
    return job.state, found, operation


async def until(host: Host, names: list[str], is_so: Callable[[State, str], bool]) -> None:
    async with asyncio.timeout(100):
        for name in names:
            while True:
                state, found, operation = await shown(host, name)
                if is_so(state, found.progress.message):
                    break
                assert not state.is_final, operation
                await asyncio.sleep(0.1)


async def registered(registry: Any, store: Store) -> tuple[model_pb2.Model, str]:
    """A base model and a dataset version that adapters can name."""
    base = model_pb2.Model(digest=store.put_bytes(b"base"))
    request = pb.CreateModelRequest(parent=PROJECT, model_id="base", model=base)
    base = await registry.CreateModel(request)
    rows = dataset(store, "rows")
    create = pb.CreateDatasetVersionRequest(parent=f"{PROJECT}/datasets/rows", dataset_version=rows)
    return base, (await registry.CreateDatasetVersion(create)).name


async def test_an_adapter_is_published_once_by_two_attempts(tmp_path: Path) -> None:
    """The first attempt's publication succeeded and its end was lost; the second has another certificate."""
    port, stored = free_port(), StoreOptions(url=str(tmp_path / "store"))
    store = Store(stored.url, tmp_path / "cache")
    async with (
        registry_at(tmp_path / "registry", port, stored) as stub,
        open_aio_channel(f"127.0.0.1:{port}") as channel,
    ):
        version = results(store, *await registered(stub, store))["train"]
        assert isinstance(version, adapter_pb2.AdapterVersion)
        version.operation = f"{PROJECT}/operations/train-1"
        registry = Registry(channel)
        first = await registry.publish_adapter(version)
        version.parity.max_logprob_difference = 3e-7
        assert await registry.publish_adapter(version) == first
        version.digest = store.put_bytes(b"other files")
        version.name = f"{PROJECT}/adapters/train/versions/{version_id(version.digest)}"
        with pytest.raises(grpc.aio.AioRpcError):
            await registry.publish_adapter(version)


@pytest.mark.timeout(240)
async def test_every_kind_of_job_waits_for_the_registry(tmp_path: Path) -> None:
    port, stored = free_port(), StoreOptions(url=str(tmp_path / "store"))
    store = Store(stored.url, tmp_path / "cache")
    async with registry_at(tmp_path / "registry", port, stored) as registry:
        base, trained_on = await registered(registry, store)
    told, kinds = results(store, base, trained_on), dict[str, JobKind]()
    settings = ServiceSettings(
        data_dir=tmp_path / "jobs",
        store=stored,
        addresses={"registry": f"127.0.0.1:{port}"},
        jobs=JobOptions(max_running=len(told) + 1, lease_s=10, backoff_s=0.05, cancel_grace_s=30),
    )
    builds = [finished_already(build, told, kinds) for build in BUILDS]
    local = [name for name in ALL if name != "registry"]
    async with hosted(tmp_path / "jobs", builds, settings=settings, local=local) as host:
        assert set(kinds) == set(told), "a kind of job publishes and has no result here"
        names = {
            name: (await host.jobs.submit(name, kind.request(), project=PROJECT)).name for name, kind in kinds.items()
        }
        unwanted = (await host.jobs.submit("curate", kinds["curate"].request(), project=PROJECT)).name
        waiting = "waiting for the publication of the result: "
        await until(host, [*names.values(), unwanted], lambda _, message: message.startswith(waiting))
        await host.jobs.cancel(unwanted)
        await until(host, [unwanted], lambda state, _: state is State.CANCELLED)
        async with registry_at(tmp_path / "registry", port, stored):
            await until(host, [*names.values()], lambda state, _: state is State.SUCCEEDED)
        for kind, name in names.items():
            _, found, operation = await shown(host, name)
            assert found.attempt == 1
            assert (settings.data_dir / "scratch" / name.rsplit("/", 1)[-1] / "runs").read_text() == "run\n"
            published = type(told[kind])()
            assert operation.response.Unpack(published)
            assert published.name == told[kind].name  # type: ignore[attr-defined]
