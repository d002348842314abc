"""The texts and statuses of an attempt that ended without a result."""

from __future__ import annotations

import time

from google.rpc import code_pb2, status_pb2

from anneal.kit.jobs import codec
from anneal.kit.jobs.failures import InterruptedTooOften
from anneal.kit.jobs.reader import Job
from anneal.kit.rpc.status import encode_refusal


def interrupted(job: Job, text: str) -> status_pb2.Status:
    """What a job fails with when this interruption was one too many."""
    times = str(job.interruptions + 1)
    return encode_refusal(
        InterruptedTooOften(
            f"the job was interrupted {times} times and is not started again: see whether it brings that about itself; "
            f"the last time {text}",
            interruptions=times,
        )
    )


def is_away(error: status_pb2.Status) -> bool:
    """Whether an attempt failed because another service does not answer."""
    return bool(error.code == code_pb2.UNAVAILABLE)


def event(job: Job, text: str) -> list[bytes]:
    """The event that says why an attempt was lost."""
    return [codec.encode_log(f"attempt {job.attempt} was lost: {text}", "warning")]


def silence(job: Job, silent_s: float) -> str:
    """Why an attempt whose lease ran out is given up."""
    if job.is_claimed:
        return f"its process sent no heartbeat for {silent_s:.0f} s"
    return f"its process started and did not claim its work within {silent_s:.0f} s"


def silent_since(job: Job, since: float) -> str:
    """What the process of an attempt that is not heard of waits for, as it is shown before it is given up."""
    clock = time.strftime("%H:%M:%S UTC", time.gmtime(since))
    if job.is_claimed:
        return f"it has sent no heartbeat since {clock}"
    return f"it started at {clock} and has not claimed its work from this service"
