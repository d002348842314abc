"""Serving is away while answers are asked: it is waited for, and no answer that came is asked again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc

from anneal.evaluation.bootstrap import build as build_evaluation
from anneal.evaluation.settings import EvaluationOptions
from anneal.kit.errors import NotReady
from anneal.kit.options import GrpcOptions, JobOptions
from anneal.kit.rpc.channels import open_aio_channel
from anneal.kit.rpc.status import decode_status
from anneal.kit.settings import ServiceSettings
from anneal.kit.testing import ALL, hosted
from anneal.registry.bootstrap import build as build_registry
from anneal.v1 import inference_service_pb2 as pb
from anneal.v1 import job_service_pb2
from tests.contract.evaluation.fake_serving import FakeServing
from tests.contract.evaluation.world import World
from tests.contract.training.scoring import free_port

CONCURRENCY = 4


class Starting(FakeServing):
    """Not ready for its first calls."""

    def __init__(self) -> None:
        super().__init__()
        self.not_ready = 0

    async def Chat(self, request: pb.ChatRequest, context: Any) -> pb.GenerateResponse:
        if self.not_ready:
            self.not_ready -= 1
            raise NotReady("the engine starts")
        return await super().Chat(request, context)


@asynccontextmanager
async def world_at(folder: Path, serving: str, **options: Any) -> AsyncIterator[World]:
    """A world whose serving is elsewhere."""
    settings = ServiceSettings(
        data_dir=folder, addresses={"serving": serving}, jobs=JobOptions(lease_s=10, backoff_s=0.05)
    )
    chosen = EvaluationOptions(concurrency=CONCURRENCY, **options)
    builds = [build_registry, lambda runtime: build_evaluation(runtime, chosen)]
    local = [name for name in ALL if name != "serving"]
    async with (
        hosted(folder, builds, settings=settings, local=local) as host,
        open_aio_channel(host.address) as channel,
    ):
        found = World(host, channel)
        await found.fill()
        yield found


@asynccontextmanager
async def listening(serving: FakeServing, folder: Path, port: int) -> AsyncIterator[None]:
    settings = ServiceSettings(data_dir=folder, grpc=GrpcOptions(port=port, drain_s=0.1))
    async with hosted(folder, [serving.build], settings=settings):
        yield


def metadata(operation: operations_pb2.Operation) -> job_service_pb2.JobMetadata:
    found = job_service_pb2.JobMetadata()
    assert operation.metadata.Unpack(found)
    return found


async def progress(world: World, name: str, words: str) -> None:
    async with asyncio.timeout(60):
        while True:
            request = operations_pb2.GetOperationRequest(name=name)
            now = await operations_pb2_grpc.OperationsStub(world.channel).GetOperation(request)
            assert not now.done, now
            if words in metadata(now).progress.message:
                return
            await asyncio.sleep(0.05)


@pytest.mark.timeout(180)
async def test_a_rollout_of_serving_asks_no_answer_again(tmp_path: Path) -> None:
    serving, port = Starting(), free_port()  # type: ignore[abstract]  # what it leaves out answers UNIMPLEMENTED
    async with world_at(tmp_path, f"127.0.0.1:{port}") as world:
        started = await world.evaluation.EvaluateModel(world.order("first"))
        await progress(world, started.name, "waiting for serving: ")
        serving.free = 30
        serving.gate.clear()
        serving.not_ready = 5
        async with listening(serving, tmp_path / "serving", port), asyncio.timeout(60):
            while sum(serving.chats.values()) < serving.free + CONCURRENCY:
                await asyncio.sleep(0.05)
        answered = sum(serving.chats.values())
        await progress(world, started.name, "waiting for serving: ")
        serving.gate.set()
        async with listening(serving, tmp_path / "serving", port):
            ended = await world.wait(started, 120)
        assert ended.done
        assert not ended.HasField("error"), ended.error
        assert metadata(ended).attempt == 1
        assert answered == serving.free + CONCURRENCY
        assert len(serving.chats) == 80
        assert sum(serving.chats.values()) <= 80 + CONCURRENCY  # those under way when it was stopped


@pytest.mark.timeout(120)
async def test_the_same_evaluation_goes_on_from_the_answers_that_came(tmp_path: Path) -> None:
    serving, port = Starting(), free_port()  # type: ignore[abstract]
    async with world_at(tmp_path, f"127.0.0.1:{port}", serving_deadline_s=3.0) as world:
        serving.free = 30
        serving.gate.clear()
        async with listening(serving, tmp_path / "serving", port), asyncio.timeout(60):
            started = await world.evaluation.EvaluateModel(world.order("first"))
            while sum(serving.chats.values()) < serving.free + CONCURRENCY:
                await asyncio.sleep(0.05)
        first = await world.wait(started)
        refusal = decode_status(first.error)
        assert refusal is not None
        assert refusal.reason == "SERVING_UNAVAILABLE"
        shutil.rmtree(world.host.settings.data_dir / "scratch")
        serving.gate.set()
        async with listening(serving, tmp_path / "serving", port):
            await world.evaluate(world.order("second"))
            assert sum(serving.chats.values()) <= 80 + CONCURRENCY
            assert not dict(world.host.store.records("answers"))
            await world.evaluate(world.order("third"))  # nothing is left over: everything is asked anew
            assert sum(serving.chats.values()) >= 160


@pytest.mark.timeout(120)
async def test_after_its_deadline_the_evaluation_fails_with_a_reason(tmp_path: Path) -> None:
    async with world_at(tmp_path, "no-such-name.invalid:50051", serving_deadline_s=1.0) as world:
        ended = await world.wait(await world.evaluation.EvaluateModel(world.order("first")))
    refusal = decode_status(ended.error)
    assert refusal is not None
    assert (refusal.reason, metadata(ended).attempt) == ("SERVING_UNAVAILABLE", 1)
    assert "no-such-name.invalid" in str(refusal)
