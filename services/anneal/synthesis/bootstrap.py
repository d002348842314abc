"""The one place that chooses what synthesis is made of."""

from __future__ import annotations

import uuid
from typing import Any

from google.protobuf.message import Message

from anneal.kit.runtime import JobKind, Runtime, Service
from anneal.synthesis.servicer import SynthesisServicer
from anneal.synthesis.settings import TeacherOptions
from anneal.v1 import dataset_pb2
from anneal.v1 import synthesis_service_pb2 as pb
from anneal.v1.registry_service_pb2 import CreateDatasetVersionRequest
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub
from anneal.v1.synthesis_service_pb2_grpc import add_SynthesisServiceServicer_to_server


def build(runtime: Runtime, teacher: TeacherOptions | None = None) -> Service:
    """Build the service.

    Args:
        runtime: what the process gives.
        teacher: how teachers are reached; the defaults where nothing is said.
    """
    options = teacher or TeacherOptions()
    registry: Any = RegistryServiceStub(runtime.channel("registry"))

    async def publish(version: dataset_pb2.DatasetVersion, operation: str) -> Message:
        created: Message = await registry.CreateDatasetVersion(
            CreateDatasetVersionRequest(
                parent=version.name.partition("/versions/")[0],
                dataset_version=version,
                request_id=str(uuid.uuid5(uuid.NAMESPACE_URL, operation)),
            )
        )
        return created

    def add(server: Any) -> None:
        servicer = SynthesisServicer(runtime.jobs, runtime.store, registry, options.hosts)
        add_SynthesisServiceServicer_to_server(servicer, server)

    return Service(
        name="synthesis",
        add=add,
        grpc_services=("anneal.v1.SynthesisService",),
        kinds=(
            JobKind(
                name="synthesize",
                request=pb.SynthesizeDatasetRequest,
                body="anneal.synthesis.jobs:synthesize_dataset",
                publish=publish,
                options=lambda: {"teacher": options.model_dump(mode="json")},
            ),
        ),
    )
