"""What the body of a long job sees: its order's surroundings, a place to report to, and a way to be stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc

from anneal.kit.options import TlsOptions
from anneal.kit.rpc.channels import address_of, open_aio_channel, open_channel
from anneal.kit.rpc.waiting import SERVICE_WAIT_S, PatientAioInterceptor, PatientInterceptor, Wait
from anneal.kit.store import Store
from anneal.v1 import job_service_pb2 as pb

LOG_WAITING_EVERY_S = 60.0
"""The log says this often what a job waits for; its progress always does."""


class Cancelled(Exception):
    """The job was asked to stop."""


class JobContext:
    """Given to a job's body. Reports are sent by the heartbeat, in order, and stored once."""

    def __init__(
        self,
        *,
        operation: str,
        attempt: int,
        store: Store,
        scratch: Path,
        addresses: Mapping[str, str],
        token: str,
        options: Mapping[str, Any],
        tls: TlsOptions | None = None,
    ) -> None:
        """Make the context.

        Args:
            operation: name of the operation.
            attempt: number of the attempt, from 1.
            store: the object store.
            scratch: folder that survives attempts; resume from what is there.
            addresses: `service -> host:port`.
            token: bearer token for other services; empty when they want none.
            options: JSON values from the service's bootstrap.
            tls: how other services are connected to.
        """
        self.operation = operation
        self.attempt = attempt
        self.store = store
        self.scratch = scratch
        self.options = options
        self._addresses = addresses
        self._token, self._tls = token, tls
        self._channels: dict[tuple[str, float], grpc.Channel] = {}
        self._lock = threading.Lock()
        self._events: list[pb.JobEvent] = []
        self._progress = pb.Progress()
        self._is_waiting = False
        self._logged_waiting = -LOG_WAITING_EVERY_S
        self._cancelled = threading.Event()

    @property
    def project(self) -> str:
        """`projects/{project}` of the operation."""
        return "/".join(self.operation.split("/")[:2])

    # -- other services ------------------------------------------------------------------------------------------

    def channel(self, service: str, part: str = "", *, wait_s: float = SERVICE_WAIT_S) -> grpc.Channel:
        """A blocking channel to a service, opened once; its unary calls wait for a service that is away.

        Args:
            service: such as `registry`.
            part: as in `address_of`.
            wait_s: longest wait for one answer; 0 leaves waiting to the caller, see `wait`.

        Raises:
            KeyError: no address is configured.
        """
        address = address_of(self._addresses, service, part)
        if (address, wait_s) not in self._channels:
            opened = open_channel(address, self._token, self._tls)
            if wait_s:
                opened = grpc.intercept_channel(opened, PatientInterceptor(self.wait(service, wait_s)))
            self._channels[address, wait_s] = opened
        return self._channels[address, wait_s]

    def aio_channel(self, service: str, part: str = "", *, wait_s: float = SERVICE_WAIT_S) -> grpc.aio.Channel:
        """A new asyncio channel to a service, otherwise as `channel`; the caller closes it.

        Raises:
            KeyError: no address is configured.
        """
        patient = [PatientAioInterceptor(self.wait(service, wait_s))] if wait_s else []
        return open_aio_channel(address_of(self._addresses, service, part), self._token, self._tls, outer=patient)

    def wait(self, service: str, seconds: float = SERVICE_WAIT_S) -> Wait:
        """How this job waits for a service: it stops when asked to, and its progress says what it waits for."""
        return Wait(service=service, seconds=seconds, check=self.check, report=self.waiting)

    # -- reports -------------------------------------------------------------------------------------------------

    def progress(self, done: int, total: int | None = None, unit: str = "", message: str = "") -> None:
        """Say how far the job is. Only the last progress between two heartbeats is kept."""
        with self._lock:
            self._progress = pb.Progress(done=done, total=total, unit=unit, message=message)
            self._is_waiting = False
            self._show(self._progress)

    def waiting(self, text: str) -> None:
        """Say in the progress what the job waits for; with an empty text the progress is again what it was."""
        with self._lock:
            if text:
                shown = pb.Progress()
                shown.CopyFrom(self._progress)
                shown.message = text
                self._show(shown)
            elif self._is_waiting:
                self._show(self._progress)
            self._is_waiting = bool(text)
            now = time.monotonic()
            if text and now >= self._logged_waiting + LOG_WAITING_EVERY_S:
                self._logged_waiting = now
                self._events.append(pb.JobEvent(log=pb.LogLine(level="warning", text=text[:4000])))

    def _show(self, progress: pb.Progress) -> None:
        if self._events and self._events[-1].HasField("progress"):
            self._events.pop()
        self._events.append(pb.JobEvent(progress=progress))

    def metric(self, name: str, value: float, step: int | None = None, **labels: str) -> None:
        """Report a reading.

        Raises:
            ValueError: the value is NaN or infinite: unknown is not a number.
        """
        self._measure(name, value, step, labels, counter=False)

    def count(self, name: str, n: float, **labels: str) -> None:
        """Add to a counter.

        Raises:
            ValueError: `n` is negative, NaN or infinite.
        """
        if n < 0:
            raise ValueError(f"{name}: a counter cannot go down by {n}")
        if n:
            self._measure(name, n, None, labels, counter=True)

    def _measure(self, name: str, value: float, step: int | None, labels: dict[str, str], *, counter: bool) -> None:
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"{name} is {value}: unknown is not a number")
        metric = pb.Metric(name=name, value=value, step=step, labels=labels, counter=counter)
        self._add(pb.JobEvent(metric=metric))

    def log(self, text: str, level: str = "info") -> None:
        """Say a line, in the job's events and in its log file."""
        self._add(pb.JobEvent(log=pb.LogLine(level=level, text=text[:4000])))

    def _add(self, event: pb.JobEvent) -> None:
        with self._lock:
            self._events.append(event)

    def take_events(self, limit: int = 2000, size_bytes: int = 1 << 20) -> list[pb.JobEvent]:
        """The oldest events not yet taken, as many as one message holds; for the heartbeat."""
        with self._lock:
            n = 0
            for event in self._events[:limit]:
                size_bytes -= event.ByteSize()
                if size_bytes < 0 and n:
                    break
                n += 1
            taken, self._events = self._events[:n], self._events[n:]
        return taken

    # -- being stopped -------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Ask the body to stop at its next `check`."""
        self._cancelled.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether the job was asked to stop."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Stop here when asked to. Call it often, at places where stopping loses nothing.

        Raises:
            Cancelled: the job was asked to stop.
        """
        if self._cancelled.is_set():
            raise Cancelled
