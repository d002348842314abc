"""The one file that chooses evaluation's real adapters."""

from __future__ import annotations

import grpc
from google.protobuf.message import Message

from anneal.evaluation.adapters.registry import Registry
from anneal.evaluation.servicer import EvaluationServicer
from anneal.evaluation.settings import EvaluationOptions
from anneal.kit.runtime import JobKind, Runtime, Service
from anneal.v1 import evaluation_pb2
from anneal.v1 import evaluation_service_pb2 as pb
from anneal.v1.evaluation_service_pb2_grpc import add_EvaluationServiceServicer_to_server


def build(runtime: Runtime, options: EvaluationOptions | None = None) -> Service:
    """Evaluation, ready to be put on a server."""
    chosen = options or EvaluationOptions()
    registry = Registry(runtime.channel("registry"))

    async def publish(evaluation: evaluation_pb2.Evaluation, operation: str) -> Message:
        evaluation.operation = operation
        return await registry.publish(evaluation)

    def add(server: grpc.aio.Server) -> None:
        servicer = EvaluationServicer(runtime.jobs, registry, runtime.store)
        add_EvaluationServiceServicer_to_server(servicer, server)

    return Service(
        name="evaluation",
        add=add,
        grpc_services=("anneal.v1.EvaluationService",),
        kinds=(
            JobKind(
                name="evaluate",
                request=pb.EvaluateModelRequest,
                body="anneal.evaluation.jobs:evaluate",
                publish=publish,
                options=lambda: chosen.model_dump(),
            ),
        ),
    )
