"""A running host with curation and a registry on it, and what tests ask of them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration

from anneal.curation.bootstrap import build as build_curation
from anneal.curation.settings import CurationOptions, EncoderOptions
from anneal.kit.datasets import DatasetReader, DatasetWriter
from anneal.kit.records import RecordKind, conversation, document, preference, to_table
from anneal.kit.rpc.channels import open_aio_channel
from anneal.kit.rpc.server import Host
from anneal.kit.rpc.status import refusal_of
from anneal.kit.testing import hosted
from anneal.registry.bootstrap import build as build_registry
from anneal.v1 import curation_service_pb2 as pb
from anneal.v1 import dataset_pb2, evaluation_pb2
from anneal.v1.curation_service_pb2_grpc import CurationServiceStub
from anneal.v1.job_service_pb2 import JobMetadata
from anneal.v1.registry_service_pb2 import CreateBenchmarkRequest, CreateDatasetVersionRequest
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub

PROJECT = "projects/p"
KINDS = {
    "document": dataset_pb2.DATASET_KIND_DOCUMENT,
    "conversation": dataset_pb2.DATASET_KIND_CONVERSATION,
    "preference": dataset_pb2.DATASET_KIND_PREFERENCE,
}


def asked(prompt: str, answer: str, source: str = "a.html") -> dict[str, Any]:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return conversation(turns, source=source)


def compared(prompt: str, chosen: str | None, rejected: str | None, source: str = "a.html") -> dict[str, Any]:
    sides = [None if text is None else [{"role": "assistant", "content": text}] for text in (chosen, rejected)]
    return preference([{"role": "user", "content": prompt}], chosen=sides[0], rejected=sides[1], source=source)


def page(text: str, source: str = "a.html") -> dict[str, Any]:
    return document(text, uri=source)


def step(name: str, **params: Any) -> pb.CurationStep:
    made = pb.CurationStep(step=name)
    made.params.update(params)
    return made


def order(
    *steps: pb.CurationStep, sources: Iterable[str], dataset: str = "curated", allow_empty: bool = False
) -> pb.CurateDatasetRequest:
    return pb.CurateDatasetRequest(
        parent=PROJECT, dataset_id=dataset, sources=sources, steps=steps, allow_empty=allow_empty
    )


def many_rows(count: int = 30_000) -> list[dict[str, Any]]:
    """Enough rows that a job can be met in the middle."""
    chance = random.Random(7)
    words = [f"w{n}" for n in range(400)]
    return [asked(f"What is {n}?", " ".join(chance.choices(words, k=60)), f"page-{n % 200}.html") for n in range(count)]


@dataclass(slots=True)
class House:
    """The running host and its stubs."""

    host: Host
    curation: Any
    registry: Any
    operations: Any

    async def publish(
        self, name: str, splits: Mapping[str, list[dict[str, Any]]], kind: RecordKind = "conversation"
    ) -> dataset_pb2.DatasetVersion:
        writer = DatasetWriter(self.host.store, kind)
        for split, rows in splits.items():
            writer.add(to_table(kind, rows), split=split)
        manifest = writer.finish(rows_in=sum(map(len, splits.values())))
        version = dataset_pb2.DatasetVersion(digest=manifest.digest, kind=KINDS[kind])
        request = CreateDatasetVersionRequest(parent=f"{PROJECT}/datasets/{name}", dataset_version=version)
        made: dataset_pb2.DatasetVersion = await self.registry.CreateDatasetVersion(request)
        return made

    async def benchmark(self, name: str, rows: list[dict[str, Any]]) -> evaluation_pb2.Benchmark:
        version = await self.publish(f"{name}-rows", {"test": rows})
        benchmark = evaluation_pb2.Benchmark(
            dataset_version=version.name, split="test", metrics=["exact_match"], max_tokens=16
        )
        request = CreateBenchmarkRequest(parent=PROJECT, benchmark_id=name, benchmark=benchmark)
        made: evaluation_pb2.Benchmark = await self.registry.CreateBenchmark(request)
        return made

    async def finished(self, operation: operations_pb2.Operation) -> operations_pb2.Operation:
        while not operation.done:
            operation = await self.operations.WaitOperation(
                operations_pb2.WaitOperationRequest(name=operation.name, timeout=Duration(seconds=20))
            )
        return operation

    async def version(self, operation: operations_pb2.Operation) -> dataset_pb2.DatasetVersion:
        done = await self.finished(operation)
        assert not done.HasField("error"), done.error
        version = dataset_pb2.DatasetVersion()
        assert done.response.Unpack(version)
        return version

    async def curated(
        self, *steps: pb.CurationStep, sources: Iterable[str], dataset: str = "curated", allow_empty: bool = False
    ) -> dataset_pb2.DatasetVersion:
        request = order(*steps, sources=sources, dataset=dataset, allow_empty=allow_empty)
        return await self.version(await self.curation.CurateDataset(request))

    async def explored(self, version: str, **settings: Any) -> pb.DatasetOverview:
        request = pb.ExploreDatasetRequest(dataset_version=version, **settings)
        done = await self.finished(await self.curation.ExploreDataset(request))
        assert not done.HasField("error"), done.error
        overview = pb.DatasetOverview()
        assert done.response.Unpack(overview)
        return overview

    def rows(self, version: dataset_pb2.DatasetVersion, split: str | None = None, part: Any = "rows") -> list[Any]:
        found: list[Any] = DatasetReader(self.host.store, version.digest).table(split, part).to_pylist()
        return found


def metadata(operation: operations_pb2.Operation) -> JobMetadata:
    found = JobMetadata()
    assert operation.metadata.Unpack(found)
    return found


def refusal(error: grpc.aio.AioRpcError) -> tuple[str, str, list[str]]:
    """Code, reason and the fields that are wrong."""
    found: Any = refusal_of(error)
    return error.code().name, found.reason, [field for field, _ in getattr(found, "violations", ())]


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[House]:
    """A host with the registry and curation on it; the same folder again goes on where it was."""
    options = CurationOptions(encoder=EncoderOptions(away_s=0.5))
    async with hosted(folder, [build_registry, lambda runtime: build_curation(runtime, options)]) as host:
        channel = open_aio_channel(host.address)
        operations = operations_pb2_grpc.OperationsStub(channel)
        yield House(host, CurationServiceStub(channel), RegistryServiceStub(channel), operations)
        await channel.close()
