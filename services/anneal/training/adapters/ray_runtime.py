"""Where Ray is: a cluster's, or one runtime that this machine keeps for all its jobs.

The local one listens on loopback only, with token authentication, and starts when the first job needs it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

START_S = 120.0
"""Longest wait for a local runtime; it takes 4 s on an idle machine."""
GRACE_S = 4.0
ENDED = "ended"
IN_PROCESS_TRIES = 3
IN_PROCESS = "local"
"""Address of a runtime that lives and dies with the job's own process: in a pod that nobody else runs Ray in."""
_LIGHT = {
    # Ray gives its workers way to every other process; here they are what the user waits for.
    "RAY_worker_niceness": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_open_telemetry": "0",
}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Without it Ray replaces 127.0.0.1 by an address that other machines can reach."""


class RayDown(Exception):
    """There is no Ray to train on right now."""


class LocalRay:
    """One Ray runtime of this machine, started once and stopped with the service."""

    def __init__(self, folder: Path, *, num_cpus: int, object_store_bytes: int) -> None:
        """Make it; nothing runs before `ensure`.

        Args:
            folder: where its process is written down, so that a runtime left behind is found and ended.
            num_cpus: processors it may give out.
            object_store_bytes: shared memory it may take.
        """
        self._record = folder / "ray.json"
        self._log = folder / "ray.log"
        self._num_cpus = num_cpus
        self._object_store_bytes = object_store_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._home: Path | None = None

    def ensure(self) -> dict[str, str]:
        """Start it unless it runs, without waiting for it; returns what a job needs to find it."""
        if self._process is None or self._process.poll() is not None or self._home is None:
            self.stop()
            self._home = self._start()
        return {"ray_home": str(self._home)}

    def _start(self) -> Path:
        self._record.parent.mkdir(parents=True, exist_ok=True)
        self.sweep()
        # A short path: the sockets below it must fit into 107 characters.
        home = Path(tempfile.mkdtemp(prefix="anneal-ray-"))
        token = home / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        arguments = [
            *("--head", "--block", "--node-ip-address=127.0.0.1", "--port=0"),
            # Nobody uses these two; their usual ports would be taken where a second runtime runs.
            f"--ray-client-server-port={_free_port()}",
            f"--dashboard-agent-listen-port={_free_port()}",
            *("--include-dashboard=false", "--disable-usage-stats", "--include-log-monitor=false"),
            f"--num-cpus={self._num_cpus}",
            f"--object-store-memory={self._object_store_bytes}",
            f"--temp-dir={home}",
        ]
        environment = {
            **os.environ,
            **_credentials(token),
            **_LOOPBACK,
            **_LIGHT,
        }
        with self._log.open("wb") as log:
            # From the thread that lives as long as the service: Linux ties the child's life to the starting thread.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "anneal.training.adapters.ray_head", str(os.getpid()), str(home), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self._record.write_text(json.dumps({"pid": self._process.pid, "home": str(home)}))
        return home

    def stop(self) -> None:
        """End exactly the runtime that `ensure` started."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
        self.sweep()
        if self._process is not None:
            self._process.wait()
            self._process = None

    def sweep_stale(self) -> None:
        """End what a killed service left behind, unless this one runs already."""
        if self._process is None:
            self.sweep()

    def sweep(self) -> None:
        """End what a runtime written down here left behind, also one of a service that was killed."""
        try:
            record = json.loads(self._record.read_text())
            home = Path(record["home"])
        except (OSError, ValueError, KeyError):
            return
        for pid in _processes_of(home):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if home.name.startswith("anneal-ray-"):
            shutil.rmtree(home, ignore_errors=True)
        self._record.unlink(missing_ok=True)


def _processes_of(home: Path) -> list[int]:
    """Processes of the runtime in a folder; Linux only.

    Those that Ray renames are known by the token they were started with.
    """
    marks = (f"{home}/".encode(), f"RAY_AUTH_TOKEN_PATH={home / 'token'}".encode())
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if marks[0] in (entry / "cmdline").read_bytes() or marks[1] in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _credentials(token: Path) -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


def is_on_one_machine(options: Mapping[str, Any]) -> bool:
    """Whether all workers are processes of this machine."""
    return "ray_home" in options or options.get("ray_address") == IN_PROCESS


@contextlib.contextmanager
def connected(options: Mapping[str, Any]) -> Iterator[None]:
    """Connect this process to Ray as a driver; what it started there ends when it leaves, or dies.

    Args:
        options: `ray_home` of a local runtime, or `ray_address` of a cluster or `IN_PROCESS`.

    Raises:
        RayDown: the local runtime did not start.
    """
    os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    address = str(options.get("ray_address") or "")
    if not address:
        home = Path(str(options["ray_home"]))
        address = _wait_for(home)
        os.environ.update({**_LOOPBACK, **_credentials(home / "token")})
    elif address == IN_PROCESS:
        os.environ.update({**_LOOPBACK, **_LIGHT})
    import ray  # after the credentials: Ray reads them once

    if address == IN_PROCESS:
        _start_in_process(options)
    else:
        ray.init(address=address, logging_level="WARNING", log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def _start_in_process(options: Mapping[str, Any]) -> None:
    """Start a runtime of this process's own, no larger than the pod that it is in.

    Ray gives a node 30 s to start, and no setting changes that. On a cold or a busy machine it takes longer the first
    time and a few seconds the next one.

    Raises:
        RayDown: it did not start.
    """
    import ray

    for left in reversed(range(IN_PROCESS_TRIES)):
        try:
            ray.init(
                address=IN_PROCESS,
                num_cpus=int(options["max_workers"]) * int(options["worker_cpus"]),
                object_store_memory=int(options["object_store_bytes"]),
                include_dashboard=False,
                logging_level="WARNING",
                log_to_driver=False,
                _node_ip_address="127.0.0.1",
            )
        except Exception as error:
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise
            if not left:
                raise RayDown(f"Ray did not start within 30 s, {IN_PROCESS_TRIES} times: {error}") from error
        else:
            return


def _wait_for(home: Path) -> str:
    """The address that a starting runtime writes down.

    Raises:
        RayDown: it ended, or takes too long.
    """
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if text := (home / "ray_current_cluster").read_text().strip():
                return text
        if not home.exists() or (home / ENDED).exists():
            break
        time.sleep(0.1)
    raise RayDown("the local Ray runtime did not start; ray.log beside the service's data says why")
