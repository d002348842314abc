"""Calls of a job's body to a service that is away: sent again, stopped on request, given up at the deadline."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from anneal.kit.errors import Busy, Denied, Down, NotReady, Refusal, TooLate
from anneal.kit.jobs.context import Cancelled, JobContext
from anneal.kit.options import GrpcOptions
from anneal.kit.rpc.status import refusal_of
from anneal.kit.rpc.waiting import RegistryUnavailable, ServiceUnavailable, ServingUnavailable, Wait, call_patiently
from anneal.kit.runtime import Runtime, Service
from anneal.kit.settings import ServiceSettings
from anneal.kit.store import Store
from anneal.kit.testing import hosted
from anneal.v1 import model_pb2
from anneal.v1 import registry_service_pb2 as pb
from anneal.v1.registry_service_pb2_grpc import (
    RegistryServiceServicer,
    RegistryServiceStub,
    add_RegistryServiceServicer_to_server,
)
from tests.contract.training.scoring import free_port

NAME = "projects/p/models/m"
REQUEST = pb.GetModelRequest(name=NAME)


class Models(RegistryServiceServicer):
    """A registry that answers `GetModel`, after its faults."""

    def __init__(self, *faults: Refusal | None) -> None:
        self.faults = list(faults)
        self.calls = 0

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> model_pb2.Model:
        self.calls += 1
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        return model_pb2.Model(name=request.name)

    @asynccontextmanager
    async def listening(self, folder: Path, port: int) -> AsyncIterator[None]:
        def build(_: Runtime) -> Service:
            return Service(
                name="registry",
                add=lambda server: add_RegistryServiceServicer_to_server(self, server),
                grpc_services=("anneal.v1.RegistryService",),
            )

        settings = ServiceSettings(data_dir=folder, grpc=GrpcOptions(port=port, drain_s=0.1))
        async with hosted(folder, [build], settings=settings):
            yield


def models_after(*faults: Refusal | None) -> Models:
    return Models(*faults)  # type: ignore[abstract]  # what it leaves out answers UNIMPLEMENTED


def context_at(tmp_path: Path, address: str) -> JobContext:
    return JobContext(
        operation="projects/p/operations/o",
        attempt=1,
        store=Store(str(tmp_path / "store"), tmp_path / "cache"),
        scratch=tmp_path,
        addresses={"registry": address},
        token="",
        options={},
    )


async def ask(ctx: JobContext, api: str, wait_s: float = 60) -> model_pb2.Model:
    """The model, over a blocking channel on a thread, or over an asyncio channel."""
    if api == "blocking":
        stub: Any = RegistryServiceStub(ctx.channel("registry", wait_s=wait_s))
        answer: model_pb2.Model = await asyncio.to_thread(stub.GetModel, REQUEST)
        return answer
    async with ctx.aio_channel("registry", wait_s=wait_s) as channel:
        return await RegistryServiceStub(channel).GetModel(REQUEST)


def progress(ctx: JobContext) -> str:
    """The message of the last progress."""
    found = ""
    for event in ctx.take_events():
        if event.HasField("progress"):
            found = event.progress.message
    return found


both = pytest.mark.parametrize("api", ["blocking", "asyncio"])


@both
async def test_a_closed_port_is_waited_for_and_the_progress_says_so(tmp_path: Path, api: str) -> None:
    port = free_port()
    ctx = context_at(tmp_path, f"127.0.0.1:{port}")
    ctx.progress(3, 7, "rows", "reading")
    asking = asyncio.create_task(ask(ctx, api))
    shown = ""
    async with asyncio.timeout(20):
        while not shown.startswith("waiting for registry: "):
            await asyncio.sleep(0.05)
            shown = progress(ctx) or shown
    async with models_after().listening(tmp_path / "registry", port):
        assert (await asking).name == NAME
    last = [event.progress for event in ctx.take_events() if event.HasField("progress")][-1]
    assert (last.done, last.total, last.unit, last.message) == (3, 7, "rows", "reading")


@both
@pytest.mark.parametrize("fault", [NotReady("not yet"), Down("gone"), Busy("full"), TooLate("slow")], ids=str)
async def test_what_passes_is_asked_again(tmp_path: Path, api: str, fault: Refusal) -> None:
    port, models = free_port(), models_after(fault, fault)
    async with models.listening(tmp_path / "registry", port):
        assert (await ask(context_at(tmp_path, f"127.0.0.1:{port}"), api)).name == NAME
    assert models.calls >= 3


@both
async def test_a_refusal_is_final(tmp_path: Path, api: str) -> None:
    port, models = free_port(), models_after(Denied("not for you"))
    async with models.listening(tmp_path / "registry", port):
        with pytest.raises(grpc.RpcError) as caught:
            await ask(context_at(tmp_path, f"127.0.0.1:{port}"), api)
    refusal = refusal_of(caught.value)
    assert refusal is not None
    assert (refusal.reason, str(refusal), models.calls) == ("PERMISSION_DENIED", "not for you", 1)


@both
@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-name.invalid:50051"])
async def test_the_time_ends_with_a_reason_and_the_last_error(tmp_path: Path, api: str, address: str) -> None:
    with pytest.raises(RegistryUnavailable, match=r"registry did not answer for 1 s: .*(refused|resolving)"):
        await ask(context_at(tmp_path, address), api, wait_s=1)


@both
async def test_a_wait_stops_when_the_job_is_asked_to(tmp_path: Path, api: str) -> None:
    ctx = context_at(tmp_path, "127.0.0.1:1")
    threading.Timer(0.5, ctx.cancel).start()
    start = time.monotonic()
    with pytest.raises(Cancelled):
        await ask(ctx, api)
    assert time.monotonic() - start < 10


def test_a_message_beyond_a_limit_is_not_waited_for() -> None:
    class TooLarge(grpc.RpcError):
        """What gRPC itself says: no details."""

        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.RESOURCE_EXHAUSTED

        def details(self) -> str:
            return "Received message larger than max"

        def trailing_metadata(self) -> tuple[()]:
            return ()

    def send(_left_s: float) -> None:
        raise TooLarge

    with pytest.raises(TooLarge):
        call_patiently(send, Wait(service="registry", seconds=30))


@pytest.mark.parametrize(
    ("service", "refusal"),
    [("registry", RegistryUnavailable), ("serving", ServingUnavailable), ("ingestion", ServiceUnavailable)],
)
def test_each_service_has_its_reason(service: str, refusal: Callable[..., Exception]) -> None:
    class Away(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.UNAVAILABLE

        def details(self) -> str:
            return "first line\nsecond line"

        def trailing_metadata(self) -> tuple[()]:
            return ()

    def send(_left_s: float) -> None:
        raise Away

    with pytest.raises(ServiceUnavailable) as caught:
        call_patiently(send, Wait(service=service, seconds=0))
    assert type(caught.value) is refusal
    assert str(caught.value) == f"{service} did not answer for 0 s: first line"
