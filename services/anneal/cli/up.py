"""`anneal up`: every service in one process, jobs as subprocesses, SQLite and files; loopback only."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from anneal.kit import logs
from anneal.kit.rpc.server import Build, Host, wait_for_signal
from anneal.kit.runtime import Runtime, Service
from anneal.kit.settings import GrpcOptions, ServiceSettings, read_settings

SERVICES = ("registry", "ingestion", "synthesis", "curation", "training", "serving", "evaluation")
STATE_FILE = "up.json"
MIN_FREE_BYTES = 1 << 30


class CannotStart(Exception):
    """The system cannot start here; the text says why and what to do."""


def service_build(name: str, options: Any = None) -> Build:
    """`bootstrap.build` of a service, with its options bound."""

    def build(runtime: Runtime) -> Service:
        module = importlib.import_module(f"anneal.{name}.bootstrap")
        made: Service = module.build(runtime) if options is None else module.build(runtime, options)
        return made

    return build


def state_of(data_dir: Path) -> dict[str, Any] | None:
    """Where the `anneal up` of a data folder listens; None when none runs."""
    try:
        state: dict[str, Any] = json.loads((data_dir / STATE_FILE).read_text())
        os.kill(state["pid"], 0)
    except (OSError, ValueError, KeyError):
        return None
    return state


def check_folder(data_dir: Path) -> None:
    """Check that the system can run on this folder.

    Raises:
        CannotStart: another one runs on it, it cannot be written, or the disk is full.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        probe = data_dir / ".probe"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise CannotStart(f"cannot write to {data_dir}: {error.strerror}") from None
    free = shutil.disk_usage(data_dir).free
    if free < MIN_FREE_BYTES:
        raise CannotStart(f"{free >> 20} MiB are free below {data_dir}; at least {MIN_FREE_BYTES >> 20} MiB are needed")
    running = state_of(data_dir)
    if running is not None:
        raise CannotStart(
            f"`anneal up` already runs on {data_dir} (pid {running['pid']}, {running['grpc']}); stop it first"
        )


class Local:
    """The whole system in this process."""

    def __init__(
        self, data_dir: Path, *, grpc_port: int, http_port: int, model_folders: tuple[Path, ...], project: str
    ) -> None:
        """Make it; nothing runs before `start`.

        Args:
            data_dir: folder for everything it keeps.
            grpc_port: 0 takes a free one.
            http_port: 0 takes a free one.
            model_folders: folders base models may be imported from.
            project: whose deployments the gateway serves under their bare ids.
        """
        self.data_dir = data_dir.absolute()
        # Loopback only, whatever the environment says that is meant for servers.
        self._settings = read_settings(
            ServiceSettings,
            data_dir=self.data_dir,
            grpc=GrpcOptions(port=grpc_port),
            metrics={"host": "127.0.0.1"},
            log_json=False,
        )
        self._http_port = http_port
        self._project = project
        self._model_folders = model_folders
        self._stack = AsyncExitStack()
        self.http_address = ""

    async def start(self) -> None:
        """Start every service, the gateway and the Ray runtime's owner.

        Raises:
            PortTaken: an address cannot be bound.
            CannotStart: the folder cannot be used.
        """
        check_folder(self.data_dir)
        training = importlib.import_module("anneal.training.settings")
        options = {
            "training": training.TrainingOptions(local_ray=True, model_folders=[str(f) for f in self._model_folders])
        }
        builds = [service_build(name, options.get(name)) for name in SERVICES]
        self.host = Host(self._settings, builds, local=SERVICES)
        try:
            await self.host.start()
            self._stack.push_async_callback(self.host.stop)
            gateway = importlib.import_module("anneal.gateway.bootstrap")
            chosen = importlib.import_module("anneal.gateway.settings").GatewayOptions(project=self._project)
            server, self.http_address = await gateway.start(self.host.runtime, port=self._http_port, options=chosen)
            self._stack.push_async_callback(server.stop)
        except BaseException:
            await self._stack.aclose()
            raise
        state = {"pid": os.getpid(), "grpc": self.host.address, "http": self.http_address}
        (self.data_dir / STATE_FILE).write_text(json.dumps(state))
        self._stack.callback((self.data_dir / STATE_FILE).unlink, missing_ok=True)

    async def stop(self) -> None:
        """Stop everything that was started."""
        await self._stack.aclose()


async def run_until_signal(
    local: Local, say: Callable[[str], None], ready: Callable[[dict[str, Any] | None], None] | None = None
) -> None:
    """Start, say where it listens (`ready` is told once, as the state file has it), wait for Ctrl-C, stop."""
    logs.configure(json_lines=False, level="WARNING")
    stopping: Awaitable[str] = wait_for_signal()
    waiter = asyncio.ensure_future(stopping)
    start = asyncio.ensure_future(local.start())
    done, _ = await asyncio.wait({waiter, start}, return_when=asyncio.FIRST_COMPLETED)
    if start in done:
        start.result()
        say(f"gRPC  {local.host.address}")
        say(f"HTTP  http://{local.http_address}/v1  (OpenAI-compatible)")
        say(f"data  {local.data_dir}")
        say("ready; Ctrl-C stops everything")
        if ready is not None:
            ready(state_of(local.data_dir))
        await waiter
    else:
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
    say("stopping")
    await local.stop()
