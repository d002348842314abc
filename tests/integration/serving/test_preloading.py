"""A replica with base models to preload is ready when their engines run, and waits for a model that comes later."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from anneal.kit.rpc import readiness
from anneal.kit.rpc.channels import open_aio_channel
from anneal.kit.rpc.server import Host
from anneal.kit.settings import ServiceSettings
from anneal.registry.bootstrap import build as build_registry
from anneal.serving.bootstrap import build as build_serving
from anneal.v1 import model_pb2
from anneal.v1 import registry_service_pb2 as pb
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub
from tests.fixtures.serving import OPTIONS, ToyFiles

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(180)]

MODEL = "projects/p/models/toy"


async def test_it_waits_for_the_model_and_starts_its_engine_unasked(
    tmp_path: Path, toy_files: ToyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "FIRST_PAUSE_S", 0.1)
    options = OPTIONS.model_copy(update={"preload": (MODEL,)})
    settings = ServiceSettings(data_dir=tmp_path)
    builds = [build_registry, lambda runtime: build_serving(runtime, options)]
    host = Host(settings, builds, local=("registry", "serving"))
    starting = asyncio.create_task(host.start())
    try:
        while "serving" not in host.readiness.who:
            assert not starting.done(), starting.result()
            await asyncio.sleep(0.05)
        line = f"the base model {MODEL} is not in the registry yet: import it, and it is loaded"
        assert host.readiness.ready() == (False, f"starting; {line}")
        digest = await asyncio.to_thread(host.store.put_tree, toy_files.base)
        async with open_aio_channel(host.address) as channel:
            model = model_pb2.Model(digest=digest, architecture="LlamaForCausalLM", context_length=1024)
            request = pb.CreateModelRequest(parent="projects/p", model_id="toy", model=model)
            await RegistryServiceStub(channel).CreateModel(request)
        await asyncio.wait_for(starting, 120)
        assert host.readiness.ready() == (True, "ready")
        assert host.runtime.metrics.registry.get_sample_value("anneal_serving_engines") == 1
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await host.stop()
