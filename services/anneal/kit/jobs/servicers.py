"""The three faces of the job engine: operations, watching, and the host that job processes talk to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2

from anneal.kit import names, pages
from anneal.kit.errors import Invalid
from anneal.kit.jobs import codec
from anneal.kit.jobs.engine import Jobs
from anneal.v1 import job_host_service_pb2 as host_pb
from anneal.v1 import job_host_service_pb2_grpc as host_grpc
from anneal.v1 import job_service_pb2 as pb
from anneal.v1 import job_service_pb2_grpc as pb_grpc

WATCH_POLL_S = 0.2
WAIT_POLL_S = 0.2
DEFAULT_WAIT_S = 30.0
MAX_LIST_BYTES = 2 << 20
LIST_STEP = 50
"""Most operations read at once for a list: results may be large."""


class OperationsServicer(operations_pb2_grpc.OperationsServicer):  # type: ignore[misc]
    """Serves `google.longrunning.Operations`."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def GetOperation(self, request: Any, context: Any) -> operations_pb2.Operation:
        """Return one operation."""
        names.parse(request.name, "operation")
        return codec.encode_operation(await self._jobs.store.get(request.name))

    async def ListOperations(self, request: Any, context: Any) -> operations_pb2.ListOperationsResponse:
        """List a project's operations, newest first, `kind=curate` as `filter`; a page may hold fewer than asked."""
        names.parse(request.name, "project")
        kind = _kind_of(request.filter)
        page = pages.page(request.page_size, request.page_token, {"name": request.name, "filter": request.filter})
        after = None if page.after is None else (float(page.after[0]), str(page.after[1]))
        response, size = operations_pb2.ListOperationsResponse(), 0
        while True:
            # A page is cut where its message would grow too long: a client goes on with the next one.
            left = min(page.size - len(response.operations), LIST_STEP)
            jobs = await self._jobs.store.page(request.name, size=left + 1, after=after, kind=kind)
            for job in jobs[:left]:
                operation = codec.encode_operation(job)
                size += operation.ByteSize()
                if size > MAX_LIST_BYTES and response.operations:
                    response.next_page_token = page.token(after)
                    return response
                response.operations.append(operation)
                after = (job.create_time, job.name)
            if len(jobs) <= left:
                return response
            if len(response.operations) == page.size:
                response.next_page_token = page.token(after)
                return response

    async def CancelOperation(self, request: Any, context: Any) -> empty_pb2.Empty:
        """Ask a job to stop."""
        names.parse(request.name, "operation")
        await self._jobs.cancel(request.name)
        return empty_pb2.Empty()

    async def DeleteOperation(self, request: Any, context: Any) -> empty_pb2.Empty:
        """Forget an ended operation."""
        names.parse(request.name, "operation")
        await self._jobs.store.forget(request.name)
        return empty_pb2.Empty()

    async def WaitOperation(self, request: Any, context: Any) -> operations_pb2.Operation:
        """Return the operation when it is done, or as it is when the time is up."""
        names.parse(request.name, "operation")
        seconds = request.timeout.ToTimedelta().total_seconds() if request.HasField("timeout") else DEFAULT_WAIT_S
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            job = await self._jobs.store.get(request.name)
            if job.state.is_final or loop.time() >= deadline:
                return codec.encode_operation(job)
            await asyncio.sleep(WAIT_POLL_S)


def _kind_of(text: str) -> str:
    if not text:
        return ""
    key, _, value = text.partition("=")
    if key.strip() != "kind" or not value.strip():
        raise Invalid.field("filter", "only `kind=<kind>` is supported")
    return value.strip().strip('"')


class JobServicer(pb_grpc.JobServiceServicer):
    """Serves `anneal.v1.JobService`."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.WatchJobResponse]:
        """Stream events from a sequence number on, then the finished operation."""
        names.parse(request.name, "operation")
        if request.from_sequence < 0:
            raise Invalid.field("from_sequence", f"{request.from_sequence} is negative")
        next_sequence = max(1, request.from_sequence)
        while True:
            job = await self._jobs.store.get(request.name)
            events = await self._jobs.store.events(request.name, next_sequence)
            for sequence, seconds, payload in events:
                yield pb.WatchJobResponse(event=codec.decode_event(sequence, seconds, payload))
                next_sequence = sequence + 1
            if job.state.is_final and next_sequence > job.last_sequence:
                yield pb.WatchJobResponse(operation=codec.encode_operation(job))
                return
            if not events:
                await asyncio.sleep(WATCH_POLL_S)


class JobHostServicer(host_grpc.JobHostServiceServicer):
    """Serves `anneal.v1.JobHostService` to the processes of jobs."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def ClaimJob(self, request: host_pb.ClaimJobRequest, context: Any) -> host_pb.ClaimJobResponse:
        """Give the work of one attempt."""
        job, token = await self._jobs.store.claim(request.operation, request.claim, self._jobs.options.lease_s)
        response = host_pb.ClaimJobResponse(
            attempt_token=token, attempt=job.attempt, kind=job.kind, lease_seconds=self._jobs.options.lease_s
        )
        response.request.ParseFromString(job.request)
        return response

    async def Heartbeat(self, request: host_pb.HeartbeatRequest, context: Any) -> host_pb.HeartbeatResponse:
        """Keep the lease."""
        cancel = await self._jobs.heartbeat(
            request.operation, request.attempt_token, request.batch, list(request.events)
        )
        return host_pb.HeartbeatResponse(cancel=cancel)

    async def CompleteJob(self, request: host_pb.CompleteJobRequest, context: Any) -> host_pb.CompleteJobResponse:
        """Publish the result and end the job."""
        await self._jobs.complete(request.operation, request.attempt_token, request.result)
        return host_pb.CompleteJobResponse()

    async def FailJob(self, request: host_pb.FailJobRequest, context: Any) -> host_pb.FailJobResponse:
        """End the attempt."""
        await self._jobs.fail(
            request.operation,
            request.attempt_token,
            request.error,
            retryable=request.retryable,
            cancelled=request.cancelled,
        )
        return host_pb.FailJobResponse()
