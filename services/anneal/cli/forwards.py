"""The port-forwards of a context: started by the first command that needs them, found by the next ones, and stopped."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anneal.cli import contexts, running
from anneal.cli.contexts import Release
from anneal.kit.errors import Down

START_S = 30.0
STOP_S = 10.0
PAUSE_S = 0.05


class ForwardsFailed(Down):
    """The port-forwards do not start; the text says why."""

    reason = "FORWARDS_FAILED"


@dataclass(frozen=True, slots=True)
class Files:
    """What the process of a context's port-forwards writes.

    Attributes:
        lock: locked while it runs.
        state: its pid and its ports.
        log: what it prints.
        error: why the last connection did not come about.
    """

    lock: Path
    state: Path
    log: Path
    error: Path

    @classmethod
    def of(cls, config: Path, context: str) -> Files:
        """Those of a context of a configuration file."""
        return cls(*(contexts.file_beside(config, context, f".{end}") for end in ("lock", "json", "log", "error")))

    def report(self, line: str) -> None:
        """Keep a line about a connection that failed."""
        contexts.write_private(self.error, " ".join(line.split()).encode())

    def running(self) -> dict[str, Any] | None:
        """The state of the process that runs; None when none does."""
        return running.state_of(self.state, self.lock)


def digest_of(release: Release) -> str:
    """What tells one release's forwards from another's."""
    return hashlib.sha256(release.model_dump_json().encode()).hexdigest()


def ensure(config: Path, context: str, release: Release) -> Mapping[str, int]:
    """`service -> local port` of forwards that run; started where none do, or where they are of another release.

    Raises:
        ForwardsFailed: they do not start.
    """
    files = Files.of(config, context)
    state = files.running()
    if state is not None and state["release"] != digest_of(release):
        stop(config, context)
        state = None
    if state is None:
        state = _start(config, context, files)
    ports: Mapping[str, int] = state["ports"]
    return ports


def _start(config: Path, context: str, files: Files) -> dict[str, Any]:
    files.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    files.error.unlink(missing_ok=True)
    environment = {**os.environ, "ANNEAL_CONFIG": str(config.absolute())}
    with files.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "anneal.cli.forwarder", context],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C of this command does not end it
        )
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        state = files.running()
        if state is not None:
            process.returncode = 0  # it outlives this command, which must not wait for it
            return state
        if process.poll():
            lines = files.log.read_text(errors="replace").strip().splitlines()
            raise ForwardsFailed(lines[-1] if lines else f"the port-forwards ended with {process.returncode}")
        time.sleep(PAUSE_S)
    process.kill()
    raise ForwardsFailed(f"the port-forwards did not start within {START_S:.0f} s; their log is {files.log}")


def stop(config: Path, context: str) -> bool:
    """Stop the forwards of a context; False when none ran."""
    files = Files.of(config, context)
    state = files.running()
    if state is None:
        return False
    os.kill(state["pid"], signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while files.running() is not None:
        if time.monotonic() > deadline:
            os.kill(state["pid"], signal.SIGKILL)
            break
        time.sleep(PAUSE_S)
    return True


def failure_since(config: Path, start_s: float) -> str:
    """Why a connection through a forward failed since then, in seconds of the epoch; empty when none did."""
    for file in sorted((config.parent / f"{config.stem}.d").glob("*.error")):
        try:
            if file.stat().st_mtime >= start_s:
                return file.read_text(errors="replace")
        except OSError:
            continue
    return ""
