"""The one file that chooses training's real adapters."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.protobuf.message import Message

from anneal.kit import names
from anneal.kit.jobs.demand import demand_of
from anneal.kit.runtime import JobKind, Runtime, Service
from anneal.training.adapters.finished import FinishedTrainings
from anneal.training.adapters.ray_runtime import IN_PROCESS, LocalRay
from anneal.training.adapters.registry import Registry
from anneal.training.adapters.speeds import Speeds
from anneal.training.orders import Orders
from anneal.training.servicer import TrainingServicer
from anneal.training.settings import TrainingOptions
from anneal.v1 import adapter_pb2, model_pb2
from anneal.v1 import training_service_pb2 as pb
from anneal.v1.training_service_pb2_grpc import add_TrainingServiceServicer_to_server


def build(runtime: Runtime, options: TrainingOptions | None = None) -> Service:
    """Training, ready to be put on a server."""
    chosen = options or TrainingOptions()
    folder = runtime.settings.data_dir / "training"
    registry = Registry(runtime.channel("registry"))
    launcher = runtime.settings.launcher
    speeds = runtime.settings.data_dir / "scratch" / "speeds.json"  # jobs write it, maybe from pods of their own
    ray = LocalRay(
        folder, num_cpus=chosen.max_workers * chosen.worker_cpus, object_store_bytes=chosen.object_store_bytes
    )

    async def publish(result: adapter_pb2.AdapterVersion | model_pb2.Model, operation: str) -> Message:
        if isinstance(result, adapter_pb2.AdapterVersion):
            result.operation = operation
            return await registry.publish_adapter(result)
        if result.dataset_versions:  # trained here, not imported
            result.operation = operation
        return await registry.publish_model(result)

    async def forget(operation: str) -> None:
        await asyncio.to_thread(
            FinishedTrainings(runtime.store, names.project_of(operation)).forget_operation, operation
        )

    def train_options() -> dict[str, Any]:
        if chosen.local_ray:
            where = ray.ensure()
        elif launcher.kind == "kubernetes" and not launcher.ray.enabled:
            where = {"ray_address": IN_PROCESS}
        else:
            where = {"ray_address": chosen.ray_address or "auto"}
        return {**chosen.model_dump(mode="json"), **where, "speeds": str(speeds)}

    def add(server: grpc.aio.Server) -> None:
        orders = Orders(
            jobs=runtime.jobs,
            store=runtime.store,
            registry=registry,
            speeds=Speeds(speeds),
            data=folder / "data",
            options=chosen,
            engine=runtime.settings.engine,
        )
        add_TrainingServiceServicer_to_server(TrainingServicer(orders), server)

    async def start() -> None:
        ray.sweep_stale()

    async def stop() -> None:
        await asyncio.to_thread(ray.stop)

    train = JobKind(
        name="train",
        request=pb.CreateTrainingJobRequest,
        body="anneal.training.jobs:train",
        publish=publish,
        succeeded=forget,
        options=train_options,
        demand=lambda request: demand_of(request, ray_workers=request.spec.workers or 1, ray_cpus=chosen.worker_cpus),
    )
    load = JobKind(
        name="import_model",
        request=pb.ImportModelRequest,
        body="anneal.training.import_job:import_model",
        publish=publish,
        options=lambda: {**chosen.model_dump(mode="json"), "engine_device": runtime.settings.engine.device},
    )
    return Service(
        name="training",
        add=add,
        grpc_services=("anneal.v1.TrainingService",),
        kinds=(train, load),
        start=start,
        stop=stop,
    )
