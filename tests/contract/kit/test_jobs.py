"""The job engine over real channels and real processes: idempotent, watchable, cancellable, resumable, fenced."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import status_pb2

from anneal.kit.errors import Busy
from anneal.kit.jobs import servicers
from anneal.kit.jobs.launcher import Ended
from anneal.kit.jobs.states import State
from anneal.kit.options import JobOptions
from anneal.kit.rpc.channels import open_aio_channel
from anneal.kit.rpc.server import Host
from anneal.kit.rpc.status import decode_status, refusal_of
from anneal.kit.runtime import JobKind, Runtime, Service
from anneal.kit.settings import ServiceSettings
from anneal.kit.testing import hosted
from anneal.v1 import curation_service_pb2 as curation
from anneal.v1 import dataset_pb2
from anneal.v1 import job_host_service_pb2 as host_pb
from anneal.v1 import job_host_service_pb2_grpc as host_grpc
from anneal.v1 import job_service_pb2 as pb
from anneal.v1 import job_service_pb2_grpc as pb_grpc
from tests.fixtures.processes import descendants

PROJECT = "projects/test"


async def _publish(result: Any, operation: str) -> dataset_pb2.DatasetVersion:
    named = dataset_pb2.DatasetVersion()
    named.CopyFrom(result)
    named.operation = operation
    return named


def build(runtime: Runtime, publish: Any = _publish) -> Service:
    kind = JobKind(
        name="count",
        request=curation.CurateDatasetRequest,
        body="tests.contract.kit.bodies:work",
        publish=publish,
        max_attempts=3,
    )
    return Service(name="test", add=lambda _server: None, grpc_services=(), kinds=(kind,))


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with hosted(tmp_path, [build]) as running:
        yield running


@pytest.fixture
async def channel(host: Host) -> AsyncIterator[grpc.aio.Channel]:
    async with open_aio_channel(host.address) as opened:
        yield opened


def order(how: str) -> curation.CurateDatasetRequest:
    return curation.CurateDatasetRequest(parent=PROJECT, dataset_id="d", sources=[how])


async def wait(channel: grpc.aio.Channel, name: str, seconds: int = 30) -> operations_pb2.Operation:
    stub = operations_pb2_grpc.OperationsStub(channel)
    request = operations_pb2.WaitOperationRequest(name=name, timeout=duration_pb2.Duration(seconds=seconds))
    return await stub.WaitOperation(request)


def metadata(operation: operations_pb2.Operation) -> pb.JobMetadata:
    found = pb.JobMetadata()
    assert operation.metadata.Unpack(found)
    return found


def result(operation: operations_pb2.Operation) -> dataset_pb2.DatasetVersion:
    found = dataset_pb2.DatasetVersion()
    assert operation.response.Unpack(found), operation
    return found


async def first_progress(host: Host, name: str) -> int:
    """Wait until the job has reported progress; returns the pid of its process."""
    async with asyncio.timeout(30):
        while (await host.jobs.store.get(name)).progress is None:
            await asyncio.sleep(0.05)
    return descendants("anneal.kit.jobs.run")[-1].pid


async def test_a_job_ends_with_its_published_result(host: Host, channel: grpc.aio.Channel) -> None:
    accepted = await host.jobs.submit("count", order("fast"), project=PROJECT)
    assert not accepted.done
    ended = await wait(channel, accepted.name)
    assert result(ended).operation == accepted.name
    assert metadata(ended).state == pb.JobState.JOB_STATE_SUCCEEDED
    assert metadata(ended).progress.done == 10
    events = [m async for m in pb_grpc.JobServiceStub(channel).WatchJob(pb.WatchJobRequest(name=accepted.name))]
    assert [m.event.sequence for m in events[:-1]] == list(range(1, len(events)))
    assert events[-1].operation.done
    assert any(m.event.log.text == "attempt 1 is done" for m in events)
    later = pb.WatchJobRequest(name=accepted.name, from_sequence=events[-2].event.sequence)
    assert len([m async for m in pb_grpc.JobServiceStub(channel).WatchJob(later)]) == 2
    value = host.runtime.metrics.registry.get_sample_value
    assert value("anneal_rows_total", {"kind": "count", "verdict": "kept", "reason": ""}) == 10


async def test_the_same_request_id_is_the_same_job(host: Host) -> None:
    first, second = await asyncio.gather(
        *(host.jobs.submit("count", order("fast"), project=PROJECT, request_id="r") for _ in range(2))
    )
    assert first.name == second.name
    with pytest.raises(Exception, match="request_id r was used for another request") as refused:
        await host.jobs.submit("count", order("slow"), project=PROJECT, request_id="r")
    assert refused.value.reason == "REQUEST_ID_REUSED"  # type: ignore[attr-defined]


async def test_a_killed_process_resumes_and_doubles_nothing(host: Host, channel: grpc.aio.Channel) -> None:
    accepted = await host.jobs.submit("count", order("slow"), project=PROJECT)
    os.kill(await first_progress(host, accepted.name), signal.SIGKILL)
    ended = await wait(channel, accepted.name)
    assert result(ended).digest == "0 1 2 3 4 5 6 7 8 9 "
    assert metadata(ended).attempt == 2
    assert "SIGKILL" in metadata(ended).last_failure


@pytest.mark.parametrize("known", ["", "its pod was evicted"])
async def test_a_process_that_its_machine_stops_says_why_where_that_is_known(
    host: Host, channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    told = Ended(text=known, charged=False) if known else None
    monkeypatch.setattr(host.jobs._launcher, "broken", lambda *_: told)
    name = (await host.jobs.submit("count", order("slow"), project=PROJECT)).name
    os.kill(await first_progress(host, name), signal.SIGTERM)
    ended = await wait(channel, name)
    assert result(ended).digest == "0 1 2 3 4 5 6 7 8 9 "
    assert metadata(ended).attempt == 2
    assert metadata(ended).last_failure == (
        known or "its process was asked to stop (SIGTERM) by its machine or its cluster"
    )
    assert (await host.jobs.store.get(name)).failures == 0


async def test_a_restarted_server_goes_on(tmp_path: Path) -> None:
    async with hosted(tmp_path, [build]) as host:
        accepted = await host.jobs.submit("count", order("slow"), project=PROJECT)
        await first_progress(host, accepted.name)
    async with hosted(tmp_path, [build]) as host, open_aio_channel(host.address) as channel:
        ended = await wait(channel, accepted.name)
        assert result(ended).digest == "0 1 2 3 4 5 6 7 8 9 "
        assert metadata(ended).attempt == 2
        assert (await host.jobs.store.get(accepted.name)).failures == 0


async def test_a_job_that_ends_its_server_each_time_is_given_up(tmp_path: Path) -> None:
    settings = ServiceSettings(data_dir=tmp_path, jobs=JobOptions(max_interruptions=2, backoff_s=0.05))
    async with hosted(tmp_path, [build], settings=settings) as host:
        name = (await host.jobs.submit("count", order("steady"), project=PROJECT)).name
        await first_progress(host, name)
    async with hosted(tmp_path, [build], settings=settings) as host:
        async with asyncio.timeout(30):
            while (await host.jobs.store.get(name)).state is not State.RUNNING:
                await asyncio.sleep(0.05)
    async with hosted(tmp_path, [build], settings=settings) as host, open_aio_channel(host.address) as channel:
        ended = await wait(channel, name)
        assert metadata(ended).state == pb.JobState.JOB_STATE_FAILED
        refusal = decode_status(ended.error)
        assert refusal is not None
        assert (refusal.reason, refusal.facts["interruptions"]) == ("JOB_INTERRUPTED", "2")
        assert "interrupted 2 times" in ended.error.message
        assert (await host.jobs.store.get(name)).failures == 0


async def test_a_killed_server_charges_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with hosted(tmp_path, [build]) as host:
        accepted = await host.jobs.submit("count", order("slow"), project=PROJECT)
        await first_progress(host, accepted.name)
        killed = host.jobs._launcher
        stop = killed.stop
        monkeypatch.setattr(killed, "stop", lambda: None)  # what SIGKILL leaves behind goes on running
    async with hosted(tmp_path, [build]) as host, open_aio_channel(host.address) as channel:
        stop()
        ended = await wait(channel, accepted.name)
        assert result(ended).digest == "0 1 2 3 4 5 6 7 8 9 "
        assert "ended with its server" in metadata(ended).last_failure
        assert (await host.jobs.store.get(accepted.name)).failures == 0


async def test_jobs_are_counted_when_they_change(host: Host, channel: grpc.aio.Channel, monkeypatch: Any) -> None:
    counted = 0
    counts = host.jobs.store.counts

    async def counting() -> list[tuple[str, State, int]]:
        nonlocal counted
        counted += 1
        return await counts()

    monkeypatch.setattr(host.jobs.store, "counts", counting)
    accepted = await host.jobs.submit("count", order("fast"), project=PROJECT)
    await wait(channel, accepted.name)
    value = host.runtime.metrics.registry.get_sample_value
    async with asyncio.timeout(10):
        while value("anneal_jobs", {"kind": "count", "state": "SUCCEEDED"}) != 1:
            await asyncio.sleep(0.05)
    before = counted
    await asyncio.sleep(1.5)  # six rounds of supervision in which nothing happens
    assert counted == before


async def test_a_running_job_shows_how_long_it_was_silent(host: Host, channel: grpc.aio.Channel) -> None:
    value = host.runtime.metrics.registry.get_sample_value
    accepted = await host.jobs.submit("count", order("slow"), project=PROJECT)
    labels = {"kind": "count", "operation": accepted.name}
    async with asyncio.timeout(30):
        while value("anneal_job_stall_seconds", labels) is None:
            await asyncio.sleep(0.05)
    assert value("anneal_job_lease_seconds") == host.settings.jobs.lease_s
    assert value("anneal_job_heartbeat_age_seconds", labels) == pytest.approx(0, abs=10)
    assert value("anneal_jobs_supervised_timestamp_seconds") == pytest.approx(time.time(), abs=10)
    await wait(channel, accepted.name)
    async with asyncio.timeout(5):
        while value("anneal_job_stall_seconds", labels) is not None:
            await asyncio.sleep(0.05)


async def test_a_cancelled_job_stops(host: Host, channel: grpc.aio.Channel) -> None:
    accepted = await host.jobs.submit("count", order("slower"), project=PROJECT)
    await first_progress(host, accepted.name)
    stub = operations_pb2_grpc.OperationsStub(channel)
    await stub.CancelOperation(operations_pb2.CancelOperationRequest(name=accepted.name))
    ended = await wait(channel, accepted.name)
    assert ended.error.code == grpc.StatusCode.CANCELLED.value[0]
    await stub.DeleteOperation(operations_pb2.DeleteOperationRequest(name=accepted.name))
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await stub.GetOperation(operations_pb2.GetOperationRequest(name=accepted.name))
    refusal = refusal_of(missing.value)
    assert refusal is not None
    assert refusal.reason == "OPERATION_MISSING"


async def test_a_job_that_does_not_stop_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ServiceSettings(data_dir=tmp_path, jobs=JobOptions(cancel_grace_s=0.5))
    async with hosted(tmp_path, [build], settings=settings) as host, open_aio_channel(host.address) as channel:
        monkeypatch.setattr(host.jobs._launcher, "_grace_s", 0.2)
        accepted = await host.jobs.submit("count", order("deaf"), project=PROJECT)
        process = psutil.Process(await first_progress(host, accepted.name))
        await host.jobs.cancel(accepted.name)
        ended = await wait(channel, accepted.name)
        assert metadata(ended).state == pb.JobState.JOB_STATE_CANCELLED
        assert "did not stop within 0.5 s" in metadata(ended).last_failure
        assert not process.is_running()


async def test_a_result_that_is_being_published_is_not_cancelled(tmp_path: Path) -> None:
    began = asyncio.Event()

    async def slowly(result: Any, operation: str) -> dataset_pb2.DatasetVersion:
        began.set()
        await asyncio.sleep(1.5)
        return await _publish(result, operation)

    settings = ServiceSettings(data_dir=tmp_path, jobs=JobOptions(cancel_grace_s=0.2))
    builds = [lambda runtime: build(runtime, slowly)]
    async with hosted(tmp_path, builds, settings=settings) as host, open_aio_channel(host.address) as channel:
        accepted = await host.jobs.submit("count", order("fast"), project=PROJECT)
        async with asyncio.timeout(30):
            await began.wait()
        await host.jobs.cancel(accepted.name)
        assert result(await wait(channel, accepted.name)).operation == accepted.name


async def test_the_requests_fault_is_not_retried(host: Host, channel: grpc.aio.Channel) -> None:
    accepted = await host.jobs.submit("count", order("refuse"), project=PROJECT)
    ended = await wait(channel, accepted.name)
    assert ended.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert metadata(ended).attempt == 1


async def test_a_finished_process_leaves_no_zombie(host: Host, channel: grpc.aio.Channel) -> None:
    before = {child.pid for child in psutil.Process().children()}
    accepted = await host.jobs.submit("count", order("fast"), project=PROJECT)
    await wait(channel, accepted.name)
    async with asyncio.timeout(20):
        while {child.pid for child in psutil.Process().children()} - before:
            await asyncio.sleep(0.05)


async def test_a_service_that_is_away_for_a_while_costs_no_attempt(tmp_path: Path) -> None:
    settings = ServiceSettings(data_dir=tmp_path, jobs=JobOptions(backoff_s=0.05))
    async with hosted(tmp_path, [build], settings=settings) as host, open_aio_channel(host.address) as channel:
        name = (await host.jobs.submit("count", order("dependent"), project=PROJECT)).name
        async with asyncio.timeout(60):
            while (await host.jobs.store.get(name)).attempt < 4:  # of three that are charged
                await asyncio.sleep(0.05)
        job = await host.jobs.store.get(name)
        assert (job.failures, job.state.is_final) == (0, False)
        assert job.last_failure.startswith("another service does not answer")
        (tmp_path / "scratch" / name.rsplit("/", 1)[-1] / "back").touch()
        ended = await wait(channel, name)
        assert result(ended).digest == "0 1 2 3 4 5 6 7 8 9 "
        lines = [pb.JobEvent.FromString(payload).log for _, _, payload in await host.jobs.store.events(name, 1)]
        lost = [line.text for line in lines if line.level == "warning"]
        assert lost[0].startswith("attempt 1 was lost: another service does not answer")


async def test_a_service_that_stays_away_ends_the_job_with_that_reason(tmp_path: Path) -> None:
    settings = ServiceSettings(data_dir=tmp_path, jobs=JobOptions(backoff_s=0.05, away_s=0))
    async with hosted(tmp_path, [build], settings=settings) as host, open_aio_channel(host.address) as channel:
        ended = await wait(channel, (await host.jobs.submit("count", order("dependent"), project=PROJECT)).name)
        assert metadata(ended).attempt == 3
        refusal = decode_status(ended.error)
        assert refusal is not None
        assert refusal.reason == "SERVICE_UNREACHABLE"
        assert "another service does not answer" in metadata(ended).last_failure


async def test_jobs_that_failed_together_are_not_repeated_together(tmp_path: Path) -> None:
    settings = ServiceSettings(data_dir=tmp_path, jobs=JobOptions(backoff_s=100))
    async with hosted(tmp_path, [build], settings=settings) as host:
        chances = iter([0.0, 1.0])
        host.jobs._chance = lambda: next(chances)
        waits = []
        for _ in range(2):
            name = (await host.jobs.submit("count", order("crash"), project=PROJECT)).name
            async with asyncio.timeout(30):
                while (job := await host.jobs.store.get(name)).state is not State.RETRYING:
                    await asyncio.sleep(0.02)
            waits.append(job.not_before - time.time())
        assert waits == [pytest.approx(75, abs=2), pytest.approx(125, abs=2)]


async def test_a_bug_is_retried_then_told(host: Host, channel: grpc.aio.Channel) -> None:
    accepted = await host.jobs.submit("count", order("crash"), project=PROJECT)
    ended = await wait(channel, accepted.name)
    assert metadata(ended).attempt == 3
    assert ended.error.code == grpc.StatusCode.INTERNAL.value[0]
    assert "RuntimeError: a bug" in ended.error.message


async def test_a_full_disk_is_not_retried_and_says_what_to_do(host: Host, channel: grpc.aio.Channel) -> None:
    accepted = await host.jobs.submit("count", order("full"), project=PROJECT)
    ended = await wait(channel, accepted.name)
    assert metadata(ended).attempt == 1
    assert ended.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    refusal = decode_status(ended.error)
    assert refusal is not None
    assert refusal.reason == "DISK_FULL"
    assert Path(refusal.facts["path"]).name == accepted.name.rsplit("/", 1)[-1]
    assert "make room there, then send the order again" in str(refusal)


async def test_a_store_that_is_away_for_a_while_is_waited_for(host: Host, channel: grpc.aio.Channel) -> None:
    accepted = await host.jobs.submit("count", order("store away"), project=PROJECT)
    ended = await wait(channel, accepted.name)
    assert not ended.HasField("error"), ended.error
    assert metadata(ended).attempt == 3


@pytest.mark.parametrize(
    ("how", "reason", "attempts"),
    [("store away for good", "STORE_UNREACHABLE", 3), ("no bucket", "STORE_BUCKET_MISSING", 1)],
)
async def test_a_store_that_does_not_work_is_the_reason_of_the_failure(
    tmp_path: Path, how: str, reason: str, attempts: int
) -> None:
    settings = ServiceSettings(data_dir=tmp_path, jobs=JobOptions(backoff_s=0.05, away_s=0))
    async with hosted(tmp_path, [build], settings=settings) as host, open_aio_channel(host.address) as channel:
        accepted = await host.jobs.submit("count", order(how), project=PROJECT)
        ended = await wait(channel, accepted.name)
    refusal = decode_status(ended.error)
    assert refusal is not None
    assert (refusal.reason, metadata(ended).attempt) == (reason, attempts)


async def test_the_last_events_are_sent_again_to_a_busy_host(
    host: Host, channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat = host.jobs.heartbeat
    refused: list[int] = []

    async def busy(name: str, token: str, batch: int, events: list[pb.JobEvent]) -> bool:
        if any("is done" in event.log.text for event in events) and len(refused) < 2:
            refused.append(batch)
            raise Busy("no room right now")
        return await heartbeat(name, token, batch, events)

    monkeypatch.setattr(host.jobs, "heartbeat", busy)
    accepted = await host.jobs.submit("count", order("fast"), project=PROJECT)
    ended = await wait(channel, accepted.name)
    assert result(ended).row_count == 10
    assert metadata(ended).attempt == 1
    assert len(refused) == 2
    events = [payload for _, _, payload in await host.jobs.store.events(accepted.name, 1)]
    assert [pb.JobEvent.FromString(e).log.text for e in events].count("attempt 1 is done") == 1


async def test_the_lease_is_kept_while_the_result_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = []

    async def slowly(result: Any, operation: str) -> dataset_pb2.DatasetVersion:
        await asyncio.sleep(4)
        published.append(operation)
        return await _publish(result, operation)

    settings = ServiceSettings(data_dir=tmp_path, jobs=JobOptions(lease_s=2, backoff_s=0.05))
    builds = [lambda runtime: build(runtime, slowly)]
    async with hosted(tmp_path, builds, settings=settings) as host, open_aio_channel(host.address) as channel:
        monkeypatch.setattr(host.jobs._launcher, "_grace_s", 0.2)
        accepted = await host.jobs.submit("count", order("fast"), project=PROJECT)
        ended = await wait(channel, accepted.name)
        assert result(ended).operation == accepted.name
        assert metadata(ended).attempt == 1
        assert published == [accepted.name]


async def test_a_zombie_can_change_nothing(host: Host, channel: grpc.aio.Channel) -> None:
    stub = host_grpc.JobHostServiceStub(channel)
    accepted = await host.jobs.submit("count", order("slow"), project=PROJECT)
    await first_progress(host, accepted.name)
    calls: list[tuple[Any, Any, str]] = [
        (
            stub.Heartbeat,
            host_pb.HeartbeatRequest(operation=accepted.name, attempt_token="old", batch=1),
            "ATTEMPT_FENCED",
        ),
        (
            stub.CompleteJob,
            host_pb.CompleteJobRequest(operation=accepted.name, attempt_token="old", result=any_pb2.Any()),
            "ATTEMPT_FENCED",
        ),
        (
            stub.FailJob,
            host_pb.FailJobRequest(operation=accepted.name, attempt_token="old", error=status_pb2.Status(code=13)),
            "ATTEMPT_FENCED",
        ),
        (stub.ClaimJob, host_pb.ClaimJobRequest(operation=accepted.name, claim="old"), "CLAIM_INVALID"),
    ]
    for call, request, reason in calls:
        with pytest.raises(grpc.aio.AioRpcError) as fenced:
            await call(request)
        assert fenced.value.code() is grpc.StatusCode.PERMISSION_DENIED
        refusal = refusal_of(fenced.value)
        assert refusal is not None
        assert refusal.reason == reason
    assert not (await wait(channel, accepted.name)).HasField("error")


async def test_lists_page_and_refuse_foreign_tokens(host: Host, channel: grpc.aio.Channel) -> None:
    made = {(await host.jobs.submit("count", order("fast"), project=PROJECT)).name for _ in range(3)}
    stub = operations_pb2_grpc.OperationsStub(channel)
    first = await stub.ListOperations(operations_pb2.ListOperationsRequest(name=PROJECT, page_size=2))
    second = await stub.ListOperations(
        operations_pb2.ListOperationsRequest(name=PROJECT, page_size=2, page_token=first.next_page_token)
    )
    assert {o.name for o in (*first.operations, *second.operations)} == made
    assert not second.next_page_token
    bad = operations_pb2.ListOperationsRequest(name="projects/other", page_token=first.next_page_token)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.ListOperations(bad)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    for name in made:
        await wait(channel, name)


async def test_a_list_is_cut_where_its_message_would_grow_too_long(
    host: Host, channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {(await host.jobs.submit("count", order("fast"), project=PROJECT)).name for _ in range(3)}
    monkeypatch.setattr(servicers, "MAX_LIST_BYTES", 1)
    stub = operations_pb2_grpc.OperationsStub(channel)
    request = operations_pb2.ListOperationsRequest(name=PROJECT, page_size=3)
    found = []
    while True:
        page = await stub.ListOperations(request)
        assert len(page.operations) == 1
        found.append(page.operations[0].name)
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert (len(found), set(found)) == (3, made)
    for name in made:
        await wait(channel, name)


async def test_a_long_list_is_read_in_steps(
    host: Host, channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {(await host.jobs.submit("count", order("fast"), project=PROJECT)).name for _ in range(4)}
    monkeypatch.setattr(servicers, "LIST_STEP", 2)
    stub = operations_pb2_grpc.OperationsStub(channel)
    for size, is_last in ((3, False), (4, True), (5, True)):
        page = await stub.ListOperations(operations_pb2.ListOperationsRequest(name=PROJECT, page_size=size))
        assert (len(page.operations), not page.next_page_token) == (min(size, 4), is_last)
    assert {one.name for one in page.operations} == made
    for name in made:
        await wait(channel, name)


async def test_unknown_fields_and_missing_ones_are_named(channel: grpc.aio.Channel) -> None:
    call: Any = channel.unary_unary("/anneal.v1.JobHostService/ClaimJob")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(b"\x98\x06\x01", timeout=5)  # field 99 as a varint
    refusal: Any = refusal_of(refused.value)
    assert {path for path, _ in refusal.violations} == {"#99", "operation", "claim"}
