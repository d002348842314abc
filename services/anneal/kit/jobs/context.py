"""What the body of a long job sees: its order's surroundings, a place to report to, and a way to be stopped."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc

from anneal.kit.options import TlsOptions
from anneal.kit.rpc.channels import address_of, open_aio_channel, open_channel
from anneal.kit.store import Store
from anneal.v1 import job_service_pb2 as pb


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
        self._channels: dict[str, grpc.Channel] = {}
        self._lock = threading.Lock()
        self._events: list[pb.JobEvent] = []
        self._cancelled = threading.Event()

    @property
    def project(self) -> str:
        """`projects/{project}` of the operation."""
        return "/".join(self.operation.split("/")[:2])

    # -- other services ------------------------------------------------------------------------------------------

    def channel(self, service: str, part: str = "") -> grpc.Channel:
        """A blocking channel to a service, opened once; `part` as in `address_of`.

        Raises:
            KeyError: no address is configured.
        """
        address = address_of(self._addresses, service, part)
        if address not in self._channels:
            self._channels[address] = open_channel(address, self._token, self._tls)
        return self._channels[address]

    def aio_channel(self, service: str, part: str = "") -> grpc.aio.Channel:
        """A new asyncio channel to a service; the caller closes it.

        Raises:
            KeyError: no address is configured.
        """
        return open_aio_channel(address_of(self._addresses, service, part), self._token, self._tls)

    # -- reports -------------------------------------------------------------------------------------------------

    def progress(self, done: int, total: int | None = None, unit: str = "", message: str = "") -> None:
        """Say how far the job is. Only the last progress between two heartbeats is kept."""
        event = pb.JobEvent(progress=pb.Progress(done=done, total=total, unit=unit, message=message))
        with self._lock:
            if self._events and self._events[-1].HasField("progress"):
                self._events.pop()
            self._events.append(event)

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

    def take_events(self, limit: int = 2000) -> list[pb.JobEvent]:
        """The oldest events not yet taken; for the heartbeat."""
        with self._lock:
            taken, self._events = self._events[:limit], self._events[limit:]
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
