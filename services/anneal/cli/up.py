"""`anneal up`: every service in one process, jobs as subprocesses, SQLite and files; on loopback by default."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from anneal.cli import monitoring, running
from anneal.cli.monitoring import Prometheus, PrometheusFailed
from anneal.kit import logs
from anneal.kit.rpc.process import run_until_signal
from anneal.kit.rpc.server import Build, Host
from anneal.kit.runtime import Runtime, Service
from anneal.kit.settings import ServiceSettings, is_loopback, read_settings

SERVICES = ("registry", "ingestion", "synthesis", "curation", "training", "serving", "evaluation")
STATE_FILE = "up.json"
LOCK_FILE = "up.lock"
MIN_FREE_BYTES = 1 << 30
_OPTIONS = {"synthesis": "teacher"}
"""The settings field of services whose own is not called like them."""


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
    return running.state_of(data_dir / STATE_FILE, data_dir / LOCK_FILE)


@contextmanager
def alone_on(data_dir: Path) -> Iterator[None]:
    """Hold a data folder; no two systems write to one.

    Raises:
        CannotStart: another one holds it.
    """
    with (data_dir / LOCK_FILE).open("a") as file:
        _take(file, data_dir)
        (data_dir / STATE_FILE).unlink(missing_ok=True)  # of one that was killed
        yield


def _take(lock: IO[str], data_dir: Path) -> None:
    if running.take(lock):
        return
    state = state_of(data_dir)
    if state is None:
        raise CannotStart(f"another `anneal up` starts or stops on {data_dir} right now; wait for it, or stop it first")
    raise CannotStart(f"`anneal up` already runs on {data_dir} (pid {state['pid']}, {state['grpc']}); stop it first")


def check_folder(data_dir: Path) -> None:
    """Check that the system can run on this folder.

    Raises:
        CannotStart: it cannot be written, or the disk is full.
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


class Local:
    """The whole system in this process."""

    def __init__(
        self,
        data_dir: Path,
        *,
        host: str = "127.0.0.1",
        grpc_port: int,
        http_port: int,
        model_folders: tuple[Path, ...],
        project: str,
        prometheus_port: int | None = None,
    ) -> None:
        """Make it; nothing runs before `start`.

        Args:
            data_dir: folder for everything it keeps.
            host: address to listen on; any but loopback needs tokens, and keys of the gateway.
            grpc_port: 0 takes a free one.
            http_port: 0 takes a free one.
            model_folders: folders of this machine that base models may be imported from without an upload.
            project: whose deployments the gateway serves under their bare ids.
            prometheus_port: starts Prometheus there, if it is installed; 0 takes a free one, None starts none.
        """
        self.data_dir = data_dir.absolute()
        # What is given here wins over the environment, which may be meant for servers of another kind.
        self._given: dict[str, Any] = {
            "data_dir": self.data_dir,
            "grpc": {"host": host, "port": grpc_port},
            "launcher": {"kind": "subprocess"},
            "addresses": dict.fromkeys(SERVICES, ""),  # all here; the host fills them in
            **({"metrics": {"host": host}, "log_json": False} if is_loopback(host) else {}),
        }
        settings = read_settings(ServiceSettings, **self._given)
        if prometheus_port is not None and settings.metrics.port is None:
            # Not the gateway's page of metrics: where the gateway has keys, that one asks for one.
            metrics = settings.metrics.model_copy(update={"port": 0})
            settings = settings.model_copy(update={"metrics": metrics})
        self.host_name = host
        self._settings = settings
        self._prometheus_port = prometheus_port
        self.prometheus: Prometheus | None = None
        self._gateway = {"host": host, "port": http_port, "project": project}
        self._training = {"local_ray": True, "model_folders": [str(folder) for folder in model_folders]}
        self._stack = AsyncExitStack()
        self.http_address = ""

    async def start(self) -> None:
        """Start every service, the gateway and the Ray runtime's owner.

        Raises:
            PortTaken: an address cannot be bound.
            CannotStart: the folder cannot be used, or another one uses it, or Prometheus does not start.
        """
        check_folder(self.data_dir)
        self._stack.enter_context(alone_on(self.data_dir))
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        builds = [service_build(name, self.options_of(name)) for name in SERVICES]
        options = self.options_of("gateway")
        self.host = Host(self._settings, builds, local=SERVICES)
        await self.host.start()
        self._stack.push_async_callback(self.host.stop)
        gateway = importlib.import_module("anneal.gateway.bootstrap")
        server, self.http_address = await gateway.start(self.host.runtime, options)
        self._stack.push_async_callback(server.stop)
        await self._watch()
        state = {"pid": os.getpid(), "grpc": self.host.address, "http": self.http_address}
        if self.prometheus is not None:
            state["prometheus"] = self.prometheus.address
        (self.data_dir / STATE_FILE).write_text(json.dumps(state))
        self._stack.callback((self.data_dir / STATE_FILE).unlink, missing_ok=True)

    def options_of(self, service: str) -> Any:
        """What a service is told: by the environment, and by what was given here, which wins.

        Raises:
            SystemExit: the environment says something wrong; the text names the variable.
        """
        field = _OPTIONS.get(service, service)
        given = {"training": self._training, "gateway": self._gateway}.get(service, {})
        settings: Any = importlib.import_module(f"anneal.{service}.settings").Settings
        return getattr(read_settings(settings, **self._given, **({field: given} if given else {})), field)

    async def _watch(self) -> None:
        """Start Prometheus on this process, where it was asked for and is installed."""
        program = monitoring.executable()
        if self._prometheus_port is None or program is None:
            return
        try:
            self.prometheus = await Prometheus.start(
                program,
                self.data_dir / "monitoring",
                target=f"127.0.0.1:{self.host.metrics_port}",
                port=self._prometheus_port,
                log=self.data_dir / "logs" / "prometheus.log",
            )
        except PrometheusFailed as failed:
            raise CannotStart(str(failed)) from None
        self._stack.push_async_callback(self.prometheus.stop)

    def watched(self) -> str | None:
        """Where Prometheus is, or why nowhere; None when it was not asked for."""
        if self.prometheus is not None:
            return f"http://{self.prometheus.address}"
        return None if self._prometheus_port is None else monitoring.NOT_INSTALLED

    async def stop(self) -> None:
        """Stop everything that was started."""
        await self._stack.aclose()


async def serve(
    local: Local, say: Callable[[str], None], ready: Callable[[dict[str, Any] | None], None] | None = None
) -> None:
    """Start, say where it listens (`ready` is told once, as the state file has it), wait for Ctrl-C, stop."""
    on_loopback = is_loopback(local.host_name)
    logs.configure(json_lines=not on_loopback, level="WARNING" if on_loopback else "INFO")

    def started() -> None:
        say(f"gRPC  {local.host.address}")
        say(f"HTTP  http://{local.http_address}/v1  (OpenAI-compatible)")
        say(f"data  {local.data_dir}")
        if watched := local.watched():
            say(f"Prometheus  {watched}")
        say("ready; Ctrl-C stops everything")
        if ready is not None:
            ready(state_of(local.data_dir))

    async def stop() -> None:
        say("stopping")
        await local.stop()

    await run_until_signal(local.start, stop, started)
