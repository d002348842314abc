"""An engine that dies takes nobody along: clients are told, health says so, and it comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from anneal.kit.rpc.status import refusal_of
from anneal.kit.testing import hosted
from anneal.serving.bootstrap import build
from anneal.v1 import inference_service_pb2 as pb
from anneal.v1.inference_service_pb2_grpc import InferenceServiceStub
from tests.fixtures.processes import descendants
from tests.fixtures.serving import OPTIONS, ToyFiles

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(240)]

SERVICE = "anneal.v1.InferenceService"


def engine_core() -> psutil.Process:
    """The process that computes: a grandchild of this one."""
    return descendants("EngineCore")[-1]


def hosts() -> set[int]:
    """The engines' processes."""
    return {process.pid for process in descendants("engine_host")}


async def test_a_killed_engine_is_told_and_comes_back(tmp_path: Path, toy_files: ToyFiles) -> None:
    before = hosts()
    async with hosted(tmp_path, [lambda runtime: build(runtime, OPTIONS)]) as host:
        digest = await asyncio.to_thread(host.store.put_tree, toy_files.base)
        channel = host.runtime.channel("serving")
        inference, health = InferenceServiceStub(channel), health_pb2_grpc.HealthStub(channel)
        sampling = pb.SamplingParams(max_tokens=1000, temperature=1.0)
        target = pb.InferenceTarget(base_model_digest=digest)
        stream = inference.StreamGenerate(pb.GenerateRequest(target=target, prompt="x", sampling=sampling))
        await stream.read()
        os.kill(engine_core().pid, signal.SIGKILL)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stream:
                pass
        refusal = refusal_of(caught.value)
        assert refusal is not None
        assert (caught.value.code(), refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_DOWN")
        assert refusal.retry_after_s

        async def status() -> int:
            return int((await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))).status)

        async with asyncio.timeout(10):
            while await status() != health_pb2.HealthCheckResponse.NOT_SERVING:
                await asyncio.sleep(0.05)
        short = pb.GenerateRequest(target=target, prompt="x", sampling=pb.SamplingParams(max_tokens=4))
        assert (await inference.Generate(short, timeout=120)).usage.completion_tokens == 4
        async with asyncio.timeout(10):
            while await status() != health_pb2.HealthCheckResponse.SERVING:
                await asyncio.sleep(0.05)
    assert hosts() <= before
