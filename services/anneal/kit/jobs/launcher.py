"""Starts the process of an attempt. Here: what every launcher promises, and a subprocess of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil

from anneal.kit.errors import Refusal
from anneal.kit.jobs.demand import Demand
from anneal.kit.jobs.pending import Pending

AWAY_CODE = 75
"""Exit code of a process whose server did not answer for too long: `EX_TEMPFAIL` of BSD's sysexits."""
AWAY = "its server did not answer it for too long"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What a process needs to know to start.

    Attributes:
        operation: name of the operation.
        attempt: number of the attempt, from 1.
        config: everything `anneal.kit.jobs.run` reads, as JSON values.
        demand: what the order asks of the machine it runs on.
    """

    operation: str
    attempt: int
    config: Mapping[str, Any] = field(repr=False)
    demand: Demand = field(default_factory=Demand)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a process ended without saying so itself.

    Attributes:
        text: what happened, as the end of a sentence that begins with "the last time".
        charged: whether it counts as a failure of the job. What its server or the cluster did to it counts as none.
        refusal: set where no other attempt would do better: the job fails with it at once.
        failure: what the job fails with where this was its last attempt; None where a bug of the job is most likely.
    """

    text: str
    charged: bool = True
    refusal: Refusal | None = None
    failure: type[Refusal] | None = None


class LaunchFailed(Exception):
    """The process of an attempt could not be started.

    Attributes:
        ended: how to end the attempt.
    """

    def __init__(
        self, text: str, *, charged: bool, refusal: Refusal | None = None, failure: type[Refusal] | None = None
    ) -> None:
        super().__init__(text)
        self.ended = Ended(text=text, charged=charged, refusal=refusal, failure=failure)


class Launcher(Protocol):
    """Starts, looks after and kills the processes of attempts.

    `launch`, `kill`, `inherit`, `start` and `stop` may take a while. The other methods answer at once, from what the
    launcher knows already: they are called on the server's event loop.

    Attributes:
        outlives_server: the processes go on when the server is stopped, and are found again by the next one.
        away_s: seconds that a process goes on while no server answers it, where that is longer than its lease.
        binds_to_thread: `launch` must be called on a thread that lives as long as the server.
        pending_s: longest wait for what `pending` says, where its reason is timed; None for no limit.
    """

    outlives_server: bool
    away_s: float
    binds_to_thread: bool
    pending_s: float | None

    def start(self) -> None:
        """Begin to look after processes; called once, before every other method."""

    def check(self, demand: Demand) -> None:
        """Check that an order asks for no more than it may have.

        Raises:
            Refusal: it does.
        """

    def blocked(self) -> Pending | None:
        """What keeps every process from being started now; jobs stay in the queue until it is None."""

    def launch(self, attempt: Attempt) -> None:
        """Start the process of an attempt; what an attempt before left running is ended first.

        Raises:
            LaunchFailed: it did not start, and never will. An attempt that may start later is `pending` instead.
        """

    def ended(self, operation: str, attempt: int) -> Ended | None:
        """How the process of an attempt ended; None while it runs or when this launcher does not know it."""

    def pending(self, operation: str, attempt: int) -> Pending | None:
        """What a process that was launched still waits for, such as a free GPU; None once it runs."""

    def silent(self, operation: str, attempt: int) -> Ended | None:
        """What is known to keep a process from sending heartbeats; None where nothing is."""

    def broken(self, operation: str, attempt: int) -> Ended | None:
        """What is known to have broken an attempt whose process says that it failed; None where nothing is."""

    def inherit(self, operation: str, attempt: int) -> Ended | None:
        """Take over from an earlier server: how the attempt it started ended; None when that cannot be known here."""

    def kill(self, operation: str) -> None:
        """End the process of an operation, gently first."""

    def discard(self, operation: str) -> None:
        """Keep nothing of an operation that was cancelled and has ended."""

    def reap(self, active: Collection[str]) -> None:
        """Forget the processes that ended and whose operations are not among the active ones."""

    def stop(self) -> None:
        """Look after nothing any more; processes that do not outlive the server are ended."""


class SubprocessLauncher:
    """One subprocess an attempt, in a process group of its own, logging to a file; it dies with its parent."""

    outlives_server = False
    away_s = 0.0
    binds_to_thread = True  # Linux ties the child's life to the thread that started it
    pending_s: float | None = None

    def __init__(self, logs: Path, *, grace_s: float = 10.0) -> None:
        self._logs = logs
        self._grace_s = grace_s
        self._running: dict[str, tuple[int, subprocess.Popen[bytes], Path]] = {}

    def start(self) -> None:
        """Nothing is to be done."""

    def check(self, demand: Demand) -> None:
        """Every order may have the whole machine."""

    def blocked(self) -> None:
        """A process can always be started."""

    def launch(self, attempt: Attempt) -> None:
        """Start the process; what an attempt before left running is ended first."""
        self.kill(attempt.operation)
        log = self._file(attempt.operation, attempt.attempt, "log")
        log.parent.mkdir(parents=True, exist_ok=True)
        # Waiting OpenMP threads sleep: on a busy machine spinning ones take the processor from those that work.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "ANNEAL_JOB": json.dumps(attempt.config)}
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "anneal.kit.jobs.run"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self._running[attempt.operation] = (attempt.attempt, process, log)
        with contextlib.suppress(psutil.NoSuchProcess):
            record = {"pid": process.pid, "create_time": psutil.Process(process.pid).create_time()}
            self._file(attempt.operation, attempt.attempt, "pid").write_text(json.dumps(record))

    def _file(self, operation: str, attempt: int, kind: str) -> Path:
        return self._logs / operation.rsplit("/", 1)[-1] / f"attempt-{attempt}.{kind}"

    def ended(self, operation: str, attempt: int) -> Ended | None:
        """How the process ended, once it has."""
        known = self._running.get(operation)
        if known is None or known[0] != attempt:
            return None
        code = known[1].poll()
        if code is None:
            return None
        del self._running[operation]
        if code == AWAY_CODE:
            return Ended(text=AWAY, charged=False)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        return Ended(text=f"the job's process {how}; {_last_line(known[2])}")

    def pending(self, operation: str, attempt: int) -> None:
        """A subprocess waits for nothing."""

    def silent(self, operation: str, attempt: int) -> None:
        """Nothing is known of a process that runs."""

    def broken(self, operation: str, attempt: int) -> None:
        """A process of this machine says itself what broke it."""

    def inherit(self, operation: str, attempt: int) -> Ended | None:
        """End at once what a server that was killed has left running; its pid may be another process's by now."""
        try:
            record = json.loads(self._file(operation, attempt, "pid").read_text())
        except (OSError, ValueError):
            return None
        try:
            process = psutil.Process(record["pid"])
            if process.create_time() == record["create_time"]:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(self._grace_s)
        except psutil.TimeoutExpired:
            return None
        except (psutil.NoSuchProcess, ProcessLookupError):
            pass
        return Ended(text="the job's process ended with its server", charged=False)

    def kill(self, operation: str) -> None:
        """SIGTERM to the process group, SIGKILL after the grace."""
        known = self._running.pop(operation, None)
        if known is not None:
            _end([known[1]], self._grace_s)

    def discard(self, operation: str) -> None:
        """Its process has ended, or is about to; its log stays."""

    def reap(self, active: Collection[str]) -> None:
        """Wait for the processes that ended after they had said so; without it each stays a zombie."""
        for name in [name for name in self._running if name not in active]:
            if self._running[name][1].poll() is not None:
                del self._running[name]

    def stop(self) -> None:
        """End every process at once."""
        processes = [process for _, process, _ in self._running.values()]
        self._running.clear()
        _end(processes, self._grace_s)


def _end(processes: list[subprocess.Popen[bytes]], grace_s: float) -> None:
    for process in processes:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        _signal(process, signal.SIGKILL)  # the group may outlive its leader
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _last_line(log: Path) -> str:
    try:
        lines = log.read_bytes()[-4000:].decode("utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return f"its last line was: {lines[-1][:300]}" if lines else "it left no log"
