"""Carries what the workers write down to whoever watches the job: each step once, over all attempts.

What was told is what the service has stored, and it alone knows: an event that this process handed to the heartbeat may
die with it. So a new attempt asks the service, reads the journal from its beginning, and tells what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from anneal.kit.jobs.context import JobContext
from anneal.kit.rpc.waiting import call_patiently
from anneal.v1 import job_service_pb2 as jobs
from anneal.v1.job_service_pb2_grpc import JobServiceStub

ASK_S = 120.0


def told_before(ctx: JobContext) -> list[jobs.JobEvent]:
    """What the attempts before this one have told, as the service has stored it.

    Raises:
        RpcError: the service refuses.
        ServiceUnavailable: it does not answer for too long.
    """
    if ctx.attempt == 1:
        return []
    stub: Any = JobServiceStub(ctx.channel("training"))
    return call_patiently(lambda _: _read_events(stub, ctx), ctx.wait("training"))


def _read_events(stub: Any, ctx: JobContext) -> list[jobs.JobEvent]:
    watching = stub.WatchJob(jobs.WatchJobRequest(name=ctx.operation), timeout=ASK_S)
    found: list[jobs.JobEvent] = []
    attempts = 0
    for message in watching:
        # Each attempt begins with the job's change to RUNNING; what follows this attempt's own is this process's.
        attempts += message.event.state == jobs.JOB_STATE_RUNNING
        if attempts == ctx.attempt:
            break
        found.append(message.event)
    watching.cancel()
    return found


class Follower:
    """Reads a run's journal as it grows."""

    def __init__(self, ctx: JobContext, folder: Path, told: Iterable[jobs.JobEvent] = ()) -> None:
        """Follow the run in `folder`.

        Args:
            ctx: told of what is new.
            folder: of the run.
            told: what attempts before have told.
        """
        self._ctx = ctx
        self._journal = folder / "events.jsonl"
        self._offset = 0
        # The last step told, by name: steps come in order, and those done once more after a restart are not above it.
        self._last: dict[str, int] = {}
        for event in told:
            metric = event.metric
            if metric.counter:  # has no step; one is told for each
                self._last[metric.name] = self._last.get(metric.name, 0) + 1
            elif metric.HasField("step"):
                self._last[metric.name] = metric.step

    def __call__(self) -> None:
        """Report what is new.

        Raises:
            Cancelled: the job was asked to stop.
        """
        self._ctx.check()
        if not self._journal.exists():
            return
        with self._journal.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            event = _event(line)
            if event is not None:
                self._report(event)

    def _report(self, event: dict[str, Any]) -> None:
        ctx, step = self._ctx, int(event["step"])
        if "num_steps" not in event:
            if self._is_new("validation_loss", step):
                ctx.metric("validation_loss", event["loss"], step=step)
            return
        readings = {
            "train_loss": event["loss"],
            "grad_norm": event["grad_norm"],
            "learning_rate": event["learning_rate"],
            "tokens_per_second": event["tokens_per_s"],
            "memory_bytes": event["memory_bytes"],
        }
        for name, value in readings.items():
            if self._is_new(name, step):
                ctx.metric(name, value, step=step)
        if self._is_new("tokens", step):
            ctx.count("tokens", event["num_tokens"], use="train")
            ctx.progress(step, event["num_steps"], "steps", f"loss {event['loss']:.3f}")

    def _is_new(self, name: str, step: int) -> bool:
        if step <= self._last.get(name, 0):
            return False
        self._last[name] = step
        return True


def _event(line: bytes) -> dict[str, Any] | None:
    """A line of the journal; None for one that a worker died in the middle of: its step is done once more."""
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return found
