"""The one file that chooses serving's real adapters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc

from anneal.kit.runtime import Runtime, Service
from anneal.serving.adapters import model_files
from anneal.serving.adapters.deployments import RegistryDeployments
from anneal.serving.adapters.engine_process import EngineProcess
from anneal.serving.adapters.preloading import preload
from anneal.serving.engines import Engines
from anneal.serving.inference import Inference
from anneal.serving.meters import EngineMetrics, Meters, OccupancyMetrics, short
from anneal.serving.served_base import Limits
from anneal.serving.servicer import AdapterServicer, InferenceServicer
from anneal.serving.settings import ServingOptions
from anneal.v1.adapter_service_pb2_grpc import add_AdapterServiceServicer_to_server
from anneal.v1.inference_service_pb2_grpc import add_InferenceServiceServicer_to_server

GRPC_SERVICES = ("anneal.v1.InferenceService", "anneal.v1.AdapterService")


def build(runtime: Runtime, options: ServingOptions | None = None) -> Service:
    """Serving with vLLM, each engine in a process of its own."""
    options = options or ServingOptions()
    logs = runtime.settings.data_dir / "logs"
    meters = Meters(runtime.metrics.registry)

    async def launch(digest: str, folder: Path, on_death: Callable[[], None]) -> EngineProcess:
        await asyncio.to_thread(logs.mkdir, parents=True, exist_ok=True)
        return await EngineProcess.start(
            options.of_engine(folder, digest, runtime.settings.engine.max_rank),
            log=logs / f"engine-{short(digest)}.log",
            threads=options.threads,
            timeout_s=options.start_s,
            on_death=on_death,
        )

    async def report(healthy: bool) -> None:
        for name in GRPC_SERVICES:
            await runtime.report_health(name, healthy)

    engines = Engines(
        launch,
        runtime.store,
        model_files,
        meters,
        limits=Limits(
            max_engines=options.max_engines,
            max_adapters=options.max_adapters,
            max_rank=runtime.settings.engine.max_rank,
            max_requests=options.max_requests,
            adapter_wait_s=options.adapter_wait_s,
        ),
        on_health=report,
    )
    runtime.metrics.registry.register(EngineMetrics(engines.metrics_texts))
    runtime.metrics.registry.register(OccupancyMetrics(engines.occupancies))
    registry = RegistryDeployments(runtime.channel("registry"))
    inference = Inference(engines, registry, meters)

    def add(server: grpc.aio.Server) -> None:
        add_InferenceServiceServicer_to_server(InferenceServicer(inference), server)
        add_AdapterServiceServicer_to_server(AdapterServicer(engines), server)

    async def start() -> None:
        for name in options.preload:
            await preload(engines, registry, name)

    async def stop() -> None:
        await engines.stop(runtime.settings.grpc.drain_s)

    return Service(name="serving", add=add, grpc_services=GRPC_SERVICES, start=start, stop=stop)
