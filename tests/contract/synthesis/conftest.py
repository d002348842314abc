"""A running host with synthesis on it, a registry beside it, and one small documents dataset."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from anneal.kit.datasets import DatasetReader, DatasetWriter
from anneal.kit.records import document, to_table
from anneal.kit.rpc.channels import open_aio_channel
from anneal.kit.rpc.server import Build, Host
from anneal.kit.testing import hosted
from anneal.registry.bootstrap import build as build_registry
from anneal.synthesis.bootstrap import build as build_synthesis
from anneal.synthesis.settings import TeacherOptions
from anneal.v1 import dataset_pb2
from anneal.v1 import synthesis_service_pb2 as pb
from anneal.v1.registry_service_pb2 import CreateDatasetVersionRequest
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub
from anneal.v1.synthesis_service_pb2_grpc import SynthesisServiceStub
from tests.unit.synthesis import documents as pages

TEACHER = TeacherOptions(hosts=("127.0.0.1", "*.teachers.example"), timeout_s=5, attempts=3, overhead_tokens=16)
TASK = {"name": "kind", "over": "spans", "prompts": ["What is {{ signature }}?"], "answer": "{{ type }}"}


@dataclass(slots=True)
class House:
    """The running host and its stubs."""

    host: Host
    synthesis: Any
    registry: Any
    operations: Any

    async def publish_documents(self, rows: list[dict[str, Any]], name: str = "docs") -> dataset_pb2.DatasetVersion:
        """A documents dataset with these hand-made pages."""
        writer = DatasetWriter(self.host.store, "document")
        made = [document(row["text"], uri=row["uri"], title=row["title"], meta=_meta(row)) for row in rows]
        writer.add(to_table("document", made))
        manifest = writer.finish(rows_in=len(rows))
        version: dataset_pb2.DatasetVersion = await self.registry.CreateDatasetVersion(
            CreateDatasetVersionRequest(
                parent=f"projects/p/datasets/{name}",
                dataset_version=dataset_pb2.DatasetVersion(
                    digest=manifest.digest, kind=dataset_pb2.DATASET_KIND_DOCUMENT
                ),
            )
        )
        return version

    async def finished(self, operation: operations_pb2.Operation) -> operations_pb2.Operation:
        """The operation when it is done."""
        while not operation.done:
            operation = await self.operations.WaitOperation(
                operations_pb2.WaitOperationRequest(name=operation.name, timeout=Duration(seconds=20))
            )
        return operation

    async def version(self, operation: operations_pb2.Operation) -> dataset_pb2.DatasetVersion:
        """The dataset version a finished operation resolved to."""
        done = await self.finished(operation)
        assert not done.HasField("error"), done.error
        version = dataset_pb2.DatasetVersion()
        assert done.response.Unpack(version)
        return version

    def rows(self, version: dataset_pb2.DatasetVersion, part: Any = "rows") -> list[dict[str, Any]]:
        """The rows of a part of a version."""
        found: list[dict[str, Any]] = DatasetReader(self.host.store, version.digest).table(part=part).to_pylist()
        return found


def _meta(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row["meta"])
    return found


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    builds: list[Build] = [build_registry, partial(build_synthesis, teacher=TEACHER)]
    async with hosted(tmp_path_factory.mktemp("house"), builds) as host:
        channel = open_aio_channel(host.address)
        yield House(
            host,
            SynthesisServiceStub(channel),
            RegistryServiceStub(channel),
            operations_pb2_grpc.OperationsStub(channel),
        )
        await channel.close()


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def source(house: House) -> str:
    """The version of a page with a function, a class, an exception and a constant."""
    version = await house.publish_documents([pages.document(pages.COPY, pages.POINT, pages.BROKEN, pages.LIMIT)])
    return version.name


def order(source: str, **recipe: Any) -> pb.SynthesizeDatasetRequest:
    """An order with the template generator and one task, unless the recipe says otherwise."""
    request = pb.SynthesizeDatasetRequest(parent="projects/p", dataset_id="rows", source=source)
    request.recipe.CopyFrom(make_recipe(**recipe))
    return request


def make_recipe(generator: str = "template", params: dict[str, Any] | None = None, **more: Any) -> pb.SynthesisRecipe:
    """A recipe with its params as a Struct."""
    recipe = pb.SynthesisRecipe(generator=generator, **more)
    recipe.params.update({"tasks": [TASK]} if params is None else params)
    return recipe


def refusal(error: grpc.aio.AioRpcError) -> tuple[str, str, list[str]]:
    """Code, reason and the fields that are wrong."""
    status: Any = rpc_status.from_call(error)
    reason, fields = "", []
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad):
            fields = [violation.field for violation in bad.field_violations]
    return error.code().name, reason, fields
