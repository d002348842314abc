"""What each fault of a publication makes of the job: wait, work again, or fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from grpc_status import rpc_status

from anneal.kit.errors import Busy, Down, NotReady, NotYet, TooLate
from anneal.kit.jobs import codec
from anneal.kit.jobs.states import State
from anneal.kit.options import JobOptions
from anneal.kit.rpc.status import encode_refusal, internal_status
from anneal.kit.runtime import JobKind, Runtime, Service
from anneal.kit.settings import ServiceSettings
from anneal.kit.testing import hosted
from anneal.v1 import curation_service_pb2 as curation
from anneal.v1 import dataset_pb2
from tests.contract.publication.test_publication import until

PROJECT = "projects/p"


class Registered(NotYet):
    reason = "REGISTERED_ELSEWHERE"


def call(code: grpc.StatusCode, status: Any = None) -> grpc.aio.AioRpcError:
    """A failed call, with the details of a status of ours where it has one."""
    metadata = grpc.aio.Metadata(*(rpc_status.to_status(status).trailing_metadata if status else ()))
    text = status.message if status else "a fault"
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details=text)


WAITS: dict[str, Exception] = {
    "down": Down("away"),
    "not ready": NotReady("starting"),
    "busy": Busy("full"),
    "slow": TooLate("slow"),
    "unavailable": call(grpc.StatusCode.UNAVAILABLE),
    "deadline": call(grpc.StatusCode.DEADLINE_EXCEEDED),
    "cut": call(grpc.StatusCode.CANCELLED),
    "no room": call(grpc.StatusCode.RESOURCE_EXHAUSTED, encode_refusal(Busy("full"))),
}
WORKS_AGAIN: dict[str, Exception] = {
    "bug": call(grpc.StatusCode.INTERNAL, internal_status("a bug")),
    "unknown": call(grpc.StatusCode.UNKNOWN),
}
FAILS: dict[str, Exception] = {
    "refusal": Registered("it is registered elsewhere"),
    "refused call": call(grpc.StatusCode.FAILED_PRECONDITION, encode_refusal(Registered("it is registered elsewhere"))),
}


async def ended(folder: Path, fault: Exception) -> tuple[State, int, operations_pb2.Operation]:
    """State and number of attempts of a job whose first two publications meet a fault."""
    calls = 0
    result = any_pb2.Any()
    result.Pack(dataset_pb2.DatasetVersion(digest="made"))

    async def publish(made: Any, _operation: str) -> dataset_pb2.DatasetVersion:
        nonlocal calls
        calls += 1
        if calls <= 2:
            raise fault
        version: dataset_pb2.DatasetVersion = made
        return version

    def build(_: Runtime) -> Service:
        kind = JobKind(
            name="publish",
            request=curation.CurateDatasetRequest,
            body="tests.contract.publication.bodies:finished",
            publish=publish,
            options=lambda: {"result": result.SerializeToString().hex()},
        )
        return Service(name="test", add=lambda _server: None, grpc_services=(), kinds=(kind,))

    settings = ServiceSettings(data_dir=folder, jobs=JobOptions(lease_s=10, backoff_s=0.05))
    async with hosted(folder, [build], settings=settings) as host:
        name = (await host.jobs.submit("publish", curation.CurateDatasetRequest(), project=PROJECT)).name
        await until(host, [name], lambda state, _: state.is_final)
        job = await host.jobs.store.get(name)
        return job.state, job.attempt, codec.encode_operation(job)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fault", WAITS.values(), ids=WAITS.keys())
async def test_a_fault_that_passes_is_waited_for(tmp_path: Path, fault: Exception) -> None:
    state, attempts, _ = await ended(tmp_path, fault)
    assert (state, attempts) == (State.SUCCEEDED, 1)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fault", WORKS_AGAIN.values(), ids=WORKS_AGAIN.keys())
async def test_a_bug_of_the_other_service_costs_an_attempt(tmp_path: Path, fault: Exception) -> None:
    state, attempts, _ = await ended(tmp_path, fault)
    assert (state, attempts) == (State.SUCCEEDED, 3)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fault", FAILS.values(), ids=FAILS.keys())
async def test_a_refusal_ends_the_job(tmp_path: Path, fault: Exception) -> None:
    state, attempts, operation = await ended(tmp_path, fault)
    assert (state, attempts) == (State.FAILED, 1)
    assert operation.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
