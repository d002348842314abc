"""Jobs as `google.longrunning.Operation` and `anneal.v1.JobEvent`."""

from __future__ import annotations

from google.longrunning import operations_pb2
from google.protobuf import any_pb2, json_format
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, status_pb2

from anneal.kit.jobs.pending import Pending
from anneal.kit.jobs.reader import Job
from anneal.kit.jobs.states import State

# Services that share a database answer for each other's jobs: every one knows the messages of all orders.
from anneal.v1 import (
    curation_service_pb2,  # noqa: F401
    evaluation_service_pb2,  # noqa: F401
    ingestion_service_pb2,  # noqa: F401
    synthesis_service_pb2,  # noqa: F401
    training_service_pb2,  # noqa: F401
)
from anneal.v1 import job_service_pb2 as pb


def encode_time(seconds: float) -> Timestamp:
    """Seconds since the epoch as a Timestamp."""
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp


def encode_state(state: State) -> bytes:
    """A state change as a serialized event."""
    return pb.JobEvent(state=pb.JobState.ValueType(state.value)).SerializeToString()


def encode_log(text: str, level: str = "info") -> bytes:
    """A line of the server's own as a serialized event."""
    return pb.JobEvent(log=pb.LogLine(level=level, text=text[:4000])).SerializeToString()


def encode_pending(job: Job, pending: Pending | None) -> bytes:
    """The progress of a job as a serialized event, with what it waits for; None where it does not any more."""
    progress = pb.Progress.FromString(job.progress or b"")
    if pending is not None:
        progress.message, progress.pending_reason = pending.text, _pending_reason(pending.reason)
    return pb.JobEvent(progress=progress).SerializeToString()


def _pending_reason(reason: str) -> pb.PendingReason.ValueType:
    """The reason as the contract has it; unspecified for one of a later release that shares the database."""
    value = pb.PendingReason.DESCRIPTOR.values_by_name.get(f"PENDING_REASON_{reason.upper()}")
    return pb.PendingReason.PENDING_REASON_UNSPECIFIED if value is None else pb.PendingReason.ValueType(value.number)


def encode_metadata(job: Job) -> pb.JobMetadata:
    """What an operation says of its job."""
    packed = any_pb2.Any.FromString(job.request)
    metadata = pb.JobMetadata(
        kind=job.kind,
        state=pb.JobState.ValueType(job.state.value),
        attempt=job.attempt,
        create_time=encode_time(job.create_time),
        last_failure=job.last_failure,
        request_id=job.request_id,
        request_json=json_format.MessageToJson(packed, indent=None, preserving_proto_field_name=True),
    )
    if job.progress is not None:
        metadata.progress.ParseFromString(job.progress)
    if job.pending_reason:
        metadata.progress.message = job.pending_text
        metadata.progress.pending_reason = _pending_reason(job.pending_reason)
    if job.start_time is not None:
        metadata.start_time.CopyFrom(encode_time(job.start_time))
    if job.end_time is not None:
        metadata.end_time.CopyFrom(encode_time(job.end_time))
    return metadata


def encode_operation(job: Job) -> operations_pb2.Operation:
    """A job as a long-running operation."""
    operation = operations_pb2.Operation(name=job.name, done=job.state.is_final)
    operation.metadata.Pack(encode_metadata(job))
    if job.state is State.SUCCEEDED and job.result is not None:
        operation.response.ParseFromString(job.result)
    elif job.state is State.CANCELLED:
        operation.error.CopyFrom(status_pb2.Status(code=code_pb2.CANCELLED, message="the job was cancelled"))
    elif job.state is State.FAILED and job.error is not None:
        operation.error.ParseFromString(job.error)
    return operation


def decode_event(sequence: int, seconds: float, payload: bytes) -> pb.JobEvent:
    """A stored event with its place and time."""
    event = pb.JobEvent.FromString(payload)
    event.sequence = sequence
    event.time.CopyFrom(encode_time(seconds))
    return event
