"""The one place that chooses what ingestion is made of."""

from __future__ import annotations

from typing import Any

from anneal.ingestion.adapters.uploads import Uploads
from anneal.ingestion.servicer import IngestionServicer
from anneal.ingestion.settings import IngestionOptions
from anneal.kit.publishing import dataset_publisher
from anneal.kit.runtime import JobKind, Runtime, Service
from anneal.v1 import ingestion_service_pb2 as pb
from anneal.v1.ingestion_service_pb2_grpc import add_IngestionServiceServicer_to_server
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub


def build(runtime: Runtime, options: IngestionOptions | None = None) -> Service:
    """Build the service; the default limits where nothing is said."""
    limits = options or IngestionOptions()
    uploads = Uploads(runtime.settings.data_dir / "uploads", runtime.store)
    registry: Any = RegistryServiceStub(runtime.channel("registry"))
    publish = dataset_publisher(runtime.channel("registry"))

    def told() -> dict[str, Any]:
        return {"limits": limits.model_dump()}

    def add(server: Any) -> None:
        servicer = IngestionServicer(runtime.jobs, runtime.store, uploads, limits, registry)
        add_IngestionServiceServicer_to_server(servicer, server)

    kinds = (
        JobKind(
            name="ingest",
            request=pb.IngestDocumentsRequest,
            body="anneal.ingestion.jobs:ingest_documents",
            publish=publish,
            options=told,
        ),
        JobKind(
            name="import",
            request=pb.ImportDatasetRequest,
            body="anneal.ingestion.importing:import_dataset",
            publish=publish,
            options=told,
        ),
        JobKind(name="push", request=pb.PushDatasetRequest, body="anneal.ingestion.push:push_dataset"),
    )
    return Service(name="ingestion", add=add, grpc_services=("anneal.v1.IngestionService",), kinds=kinds)
