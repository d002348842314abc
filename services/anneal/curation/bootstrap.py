"""The one place that chooses what curation is made of."""

from __future__ import annotations

from typing import Any

from anneal.curation.servicer import CurationServicer
from anneal.curation.settings import CurationOptions
from anneal.kit.publishing import dataset_publisher
from anneal.kit.runtime import JobKind, Runtime, Service
from anneal.v1 import contamination_pb2
from anneal.v1 import curation_service_pb2 as pb
from anneal.v1.curation_service_pb2_grpc import add_CurationServiceServicer_to_server
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub


def build(runtime: Runtime, options: CurationOptions | None = None) -> Service:
    """Build the service.

    Args:
        runtime: what the process gives.
        options: what orders may ask for; the defaults where nothing is said.
    """
    channel = runtime.channel("registry")
    registry: Any = RegistryServiceStub(channel)
    chosen = options or CurationOptions()
    servicer = CurationServicer(runtime.jobs, runtime.store, registry, chosen)
    return Service(
        name="curation",
        add=lambda server: add_CurationServiceServicer_to_server(servicer, server),
        grpc_services=("anneal.v1.CurationService",),
        kinds=(
            JobKind(
                name="curate",
                request=pb.CurateDatasetRequest,
                body="anneal.curation.jobs:curate_dataset",
                publish=dataset_publisher(channel),
                options=lambda: chosen.model_dump(mode="json"),
            ),
            JobKind(
                name="explore",
                request=pb.ExploreDatasetRequest,
                body="anneal.curation.exploring:explore_dataset",
                options=lambda: chosen.model_dump(mode="json"),
            ),
            JobKind(
                name="check_contamination",
                request=contamination_pb2.CheckContaminationRequest,
                body="anneal.curation.contamination:check_contamination",
                options=lambda: chosen.model_dump(mode="json"),
            ),
        ),
    )
