"""A full server refuses what comes on top, and never its own jobs, their watchers or the health checks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from anneal.kit.options import GrpcOptions
from anneal.kit.rpc.channels import open_aio_channel
from anneal.kit.rpc.server import Host
from anneal.kit.rpc.status import refusal_of
from anneal.kit.runtime import JobKind, Runtime, Service
from anneal.kit.settings import ServiceSettings
from anneal.kit.testing import hosted
from anneal.v1 import curation_service_pb2 as curation
from anneal.v1 import curation_service_pb2_grpc as curation_grpc
from anneal.v1 import job_service_pb2 as pb
from anneal.v1 import job_service_pb2_grpc as pb_grpc

pytestmark = pytest.mark.timeout(30)

PROJECT = "projects/test"
ORDER = curation.CurateDatasetRequest(
    parent=PROJECT, dataset_id="d", sources=["slow"], steps=[curation.CurationStep(step="length")]
)

LIST = operations_pb2.ListOperationsRequest(name=PROJECT)


class Slow(curation_grpc.CurationServiceServicer):
    """Answers when it is let go."""

    def __init__(self) -> None:
        self.holds = asyncio.Event()
        self.go = asyncio.Event()

    async def CurateDataset(self, request: Any, context: Any) -> operations_pb2.Operation:
        self.holds.set()
        await self.go.wait()
        return operations_pb2.Operation(name="done")

    async def ExploreDataset(self, request: Any, context: Any) -> operations_pb2.Operation:
        raise NotImplementedError

    async def CheckContamination(self, request: Any, context: Any) -> operations_pb2.Operation:
        raise NotImplementedError

    async def GetContaminationReport(self, request: Any, context: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
def servicer() -> Slow:
    return Slow()


@pytest.fixture
async def host(tmp_path: Path, servicer: Slow) -> AsyncIterator[Host]:
    def build(_runtime: Runtime) -> Service:
        kind = JobKind(name="count", request=curation.CurateDatasetRequest, body="tests.contract.kit.bodies:work")
        return Service(
            name="curation",
            add=lambda server: curation_grpc.add_CurationServiceServicer_to_server(servicer, server),
            grpc_services=("anneal.v1.CurationService",),
            kinds=(kind,),
        )

    settings = ServiceSettings(data_dir=tmp_path, grpc=GrpcOptions(max_concurrent=1, max_waiting=1))
    async with hosted(tmp_path, [build], settings=settings) as running:
        yield running


@pytest.fixture
async def channel(host: Host) -> AsyncIterator[grpc.aio.Channel]:
    async with open_aio_channel(host.address) as opened:
        yield opened


async def refused(call: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as busy:
        await call
    assert busy.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    refusal = refusal_of(busy.value)
    assert refusal is not None
    assert refusal.reason == "SERVER_BUSY"
    assert refusal.facts == {"limit": "1"}
    assert refusal.retry_after_s == 1.0


async def test_one_more_is_refused_at_once(channel: grpc.aio.Channel, servicer: Slow) -> None:
    stub = curation_grpc.CurationServiceStub(channel)
    held = asyncio.ensure_future(stub.CurateDataset(ORDER))
    await servicer.holds.wait()
    await refused(stub.CurateDataset(ORDER))
    await refused(operations_pb2_grpc.OperationsStub(channel).ListOperations(LIST))
    servicer.go.set()
    assert (await held).name == "done"
    assert (await stub.CurateDataset(ORDER)).name == "done"


async def test_a_caller_that_goes_away_frees_its_place(channel: grpc.aio.Channel, servicer: Slow) -> None:
    stub = curation_grpc.CurationServiceStub(channel)
    held = stub.CurateDataset(ORDER)
    held_task = asyncio.ensure_future(held)
    await servicer.holds.wait()
    held.cancel()
    await asyncio.gather(held_task, return_exceptions=True)
    servicer.go.set()
    async with asyncio.timeout(5):
        while True:
            try:
                await stub.CurateDataset(ORDER)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_full_server_goes_on_with_its_jobs(host: Host, channel: grpc.aio.Channel, servicer: Slow) -> None:
    held = asyncio.ensure_future(curation_grpc.CurationServiceStub(channel).CurateDataset(ORDER))
    await servicer.holds.wait()
    accepted = await host.jobs.submit("count", ORDER, project=PROJECT)
    watch = pb_grpc.JobServiceStub(channel).WatchJob(pb.WatchJobRequest(name=accepted.name))
    messages = aiter(watch)
    assert (await anext(messages)).HasField("event")
    wait = operations_pb2.WaitOperationRequest(name=accepted.name, timeout=duration_pb2.Duration(seconds=30))
    await refused(operations_pb2_grpc.OperationsStub(channel).WaitOperation(wait))
    health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    *_, last = [message async for message in messages]
    assert last.operation.done
    assert not last.operation.HasField("error")
    servicer.go.set()
    await held
