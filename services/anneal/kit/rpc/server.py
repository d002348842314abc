"""The gRPC server of a process: services, health, reflection, operations; drained before it goes down."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
from google.longrunning import operations_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from anneal.kit import logs
from anneal.kit.exposition import serve_http
from anneal.kit.jobs import codec
from anneal.kit.jobs.engine import Jobs
from anneal.kit.jobs.launcher import Launcher, SubprocessLauncher
from anneal.kit.jobs.servicers import JobHostServicer, JobServicer, OperationsServicer
from anneal.kit.jobs.states import State
from anneal.kit.jobs.store import JobStore
from anneal.kit.metrics import DiskSpace, Metrics
from anneal.kit.options import GrpcOptions
from anneal.kit.outages import Outages
from anneal.kit.rpc.channels import Channels
from anneal.kit.rpc.interceptor import KitInterceptor
from anneal.kit.rpc.ports import PortTaken
from anneal.kit.rpc.probes import DATABASE_EVERY_S, STORE_EVERY_S, StoreProbe, Watch, ask_database, prepare_jobs
from anneal.kit.rpc.readiness import Readiness
from anneal.kit.rpc.tls import server_credentials
from anneal.kit.runtime import Runtime, Service
from anneal.kit.settings import Misconfigured, ServiceSettings
from anneal.kit.sql import open_engine
from anneal.kit.store import Store
from anneal.v1 import job_host_service_pb2_grpc, job_service_pb2_grpc

KEEP_READINGS_S = 300.0
"""How long a job's last readings are served after its end, so that a slow scraper meets those of a short job."""

JOB_SERVICES = ("google.longrunning.Operations", "anneal.v1.JobService", "anneal.v1.JobHostService")
Build = Callable[[Runtime], Service]


class Host:
    """One process's server: any number of services on one port, with the job engine and health beside them."""

    def __init__(self, settings: ServiceSettings, builds: Sequence[Build], *, local: Sequence[str] = ()) -> None:
        """Make the host; nothing runs before `start`.

        Args:
            settings: the process's settings.
            builds: each makes one service from the runtime.
            local: services that live on this very server; their address becomes its own.
        """
        self.settings = settings
        self._builds = builds
        self._local = tuple(local)
        self._log = logs.logger("server")
        self.port = 0
        self.metrics_port: int | None = None
        self.services: list[Service] = []
        self._outages = Outages()
        self.readiness = Readiness(self._outages)
        self._ailing: frozenset[str] = frozenset()
        self._started = AsyncExitStack()

    @property
    def address(self) -> str:
        """`host:port` that clients on this machine use."""
        host = self.settings.grpc.host
        return f"{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{self.port}"

    async def start(self) -> None:
        """Bind, build, serve; what fails half-way stops what it has started.

        Raises:
            PortTaken: the address is in use or not ours.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        """Start part by part, noting how each is stopped: the last one first."""
        settings, started = self.settings, self._started
        self.readiness.begin()
        started.push_async_callback(self.readiness.end)
        _take_folder(settings.data_dir)
        tokens = settings.bearer_tokens()
        token = tokens[0] if tokens else ""
        metrics = Metrics()
        metrics.registry.register(DiskSpace(settings.folders()))
        self._serve_http(metrics)
        self._server = _make_server(settings.grpc, metrics, tokens)
        self._bind()
        addresses = {**settings.addresses, **dict.fromkeys(self._local, self.address)}
        self._store_watch = Watch(self.readiness, "store", self._ask_store, lambda: STORE_EVERY_S)
        self._database_watch = Watch(self.readiness, "database", self._ask_database, lambda: DATABASE_EVERY_S)
        self.store = Store(
            settings.store_url(),
            settings.data_dir / "cache",
            settings.store.options,
            on_fault=self._store_watch.suspect,
        )
        self._store_probe = StoreProbe(self.store)
        self._engine = open_engine(settings.sql_url("jobs"), on_fault=self._database_watch.suspect)
        started.push_async_callback(self._engine.dispose)
        await self.readiness.wait_for("store", self._store_probe.ask)
        await self.readiness.wait_for("database", lambda: prepare_jobs(self._engine))
        self.jobs = self._make_jobs(metrics, addresses, token)
        self.channels = Channels(addresses, token, settings.tls)
        started.push_async_callback(self.channels.close)
        self.runtime = Runtime(
            settings=settings,
            store=self.store,
            jobs=self.jobs,
            metrics=metrics,
            channels=self.channels,
            report_health=self._report_health,
            on_database_fault=self._database_watch.suspect,
        )
        for build in self._builds:
            service = build(self.runtime)
            self.services.append(service)
            # Stopped after the server: what a service lets go of, such as its database, running RPCs still need.
            started.push_async_callback(service.stop)
        self._health = health_aio.HealthServicer()
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._register()
        started.push_async_callback(self._server.stop, settings.grpc.drain_s)
        await self._server.start()
        started.push_async_callback(self.jobs.stop)
        await self.jobs.start()
        for service in self.services:
            await self.readiness.wait_for(service.name, service.start)
        self._keep_watching()
        started.push_async_callback(self._leave)
        self.readiness.clear("start")
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        for name in self._ailing:
            await self._report_health(name, False)
        self._log.info(
            "serving",
            address=self.address,
            metrics_port=self.metrics_port,
            services=[service.name for service in self.services],
        )

    def _bind(self) -> None:
        wanted = f"{self.settings.grpc.host}:{self.settings.grpc.port}"
        try:
            # gRPC logs lines of its own about an address it cannot have; a plain socket asks without them.
            with socket.socket(socket.AF_INET6 if ":" in self.settings.grpc.host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((self.settings.grpc.host, self.settings.grpc.port))
            credentials = server_credentials(self.settings.tls)
            self.port = (
                self._server.add_secure_port(wanted, credentials)
                if credentials
                else self._server.add_insecure_port(wanted)
            )
        except (RuntimeError, OSError):
            self.port = 0
        if not self.port:
            raise PortTaken(
                errno.EADDRINUSE, f"cannot listen on {wanted}: the port is taken or the address is not ours"
            )

    def _make_jobs(self, metrics: Metrics, addresses: dict[str, str], token: str) -> Jobs:
        settings = self.settings

        def changed(name: str, kind: str, state: State, age_s: float) -> None:
            metrics.job_transitions.labels(kind, state.name).inc()
            if state.is_final:
                metrics.job_seconds.labels(kind, state.name).observe(age_s)
                asyncio.get_running_loop().call_later(KEEP_READINGS_S, metrics.forget_job, kind, name)

        def config() -> dict[str, Any]:
            own = settings.launcher.host or self.address
            return {
                "host": own,
                "token": token,
                "addresses": {**addresses, **{service.name: own for service in self.services}},
                "store_url": settings.store_url(),
                "store_options": settings.store.options,
                "cache": str(settings.data_dir / "cache"),
                "tls": settings.tls.model_dump(mode="json"),
            }

        return Jobs(
            JobStore(
                self._engine,
                codec.encode_state,
                on_change=changed,
                max_interruptions=settings.jobs.max_interruptions,
            ),
            _launcher(settings),
            metrics,
            settings.jobs,
            scratch=settings.data_dir / "scratch",
            config=config,
            outages=self._outages,
        )

    def _register(self) -> None:
        server = self._server
        operations_pb2_grpc.add_OperationsServicer_to_server(OperationsServicer(self.jobs), server)
        job_service_pb2_grpc.add_JobServiceServicer_to_server(JobServicer(self.jobs), server)
        job_host_service_pb2_grpc.add_JobHostServiceServicer_to_server(JobHostServicer(self.jobs), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        for service in self.services:
            service.add(server)
            for kind in service.kinds:
                self.jobs.register(kind)
        reflection.enable_server_reflection(
            [
                *self.grpc_services(),
                health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
                reflection.SERVICE_NAME,
            ],
            server,
        )

    def grpc_services(self) -> list[str]:
        """Full names of every gRPC service here."""
        return [*JOB_SERVICES, *(name for service in self.services for name in service.grpc_services)]

    async def _set_health(self, status: Any) -> None:
        for name in ("", *self.grpc_services()):
            await self._health.set(name, status)

    async def _ask_store(self, _thorough: bool) -> None:
        await self._store_probe.ask()

    async def _ask_database(self, thorough: bool) -> None:
        """Ask whether it answers; after a fault and after it was away, whether the tables are still there, too."""
        if not thorough:
            return await ask_database(self._engine)
        await prepare_jobs(self._engine)
        for service in self.services:
            await service.check()
        return None

    def _keep_watching(self) -> None:
        for watch in (self._store_watch, self._database_watch):
            self._started.push_async_callback(_cancelled, asyncio.create_task(watch.run()))

    async def _leave(self) -> None:
        """Tell probes and callers that nothing new should come."""
        self.readiness.object_to("start", "stopping")
        await self._health.enter_graceful_shutdown()

    async def _report_health(self, service: str, serving: bool) -> None:
        """See `Runtime.report_health`. Before the start has ended nothing serves; what was said counts then."""
        self._ailing = self._ailing - {service} if serving else self._ailing | {service}
        if serving:
            self.readiness.clear(service)
        else:
            self.readiness.object_to(service, f"{service} does not serve")
        if "start" in self.readiness.who:
            return
        for name, well in ((service, serving), ("", not self._ailing)):
            status = health_pb2.HealthCheckResponse
            await self._health.set(name, status.SERVING if well else status.NOT_SERVING)

    def _serve_http(self, metrics: Metrics) -> None:
        options = self.settings.metrics
        if options.port is not None:
            try:
                server = serve_http(metrics.registry, self.readiness, options.host, options.port)
            except OSError as error:
                raise PortTaken(
                    error.errno, f"cannot serve metrics on {options.host}:{options.port}: {error.strerror}"
                ) from None
            self.metrics_port = server.server_port
            self._started.callback(server.server_close)
            self._started.callback(server.shutdown)

    async def stop(self) -> None:
        """Say NOT_SERVING, let running RPCs end, end the jobs' processes, close everything."""
        await self._started.aclose()


def _take_folder(folder: Path) -> None:
    """Make the data folder where it is missing, and see that it can be written to.

    Raises:
        Misconfigured: it cannot; on a read-only root it is a volume that was forgotten.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Misconfigured(f"ANNEAL_DATA_DIR: cannot write to {folder}: {error.strerror}") from None


def _launcher(settings: ServiceSettings) -> Launcher:
    """What the settings choose to start the processes of jobs with."""
    if settings.launcher.kind == "subprocess":
        return SubprocessLauncher(settings.data_dir / "logs")
    # Imported late: its client takes a second to import, and images of services without jobs have none.
    try:
        from anneal.kit.jobs.kubernetes.launcher import KubernetesLauncher
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"ANNEAL_LAUNCHER__KIND is kubernetes, and the Python package {error.name} is not installed: services that "
            "start no jobs are installed without it; set subprocess"
        ) from None

    return KubernetesLauncher(settings.launcher, data_dir=settings.data_dir)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _make_server(options: GrpcOptions, metrics: Metrics, tokens: Sequence[str]) -> grpc.aio.Server:
    interceptor = KitInterceptor(
        metrics, tokens=tokens, max_concurrent=options.max_concurrent, max_waiting=options.max_waiting
    )
    return grpc.aio.server(
        interceptors=[interceptor],
        options=[
            ("grpc.max_receive_message_length", options.max_message_bytes),
            ("grpc.max_send_message_length", 64 << 20),
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
            *_aging(options.max_connection_age_s),
        ],
    )


def _aging(age_s: float) -> list[tuple[str, int]]:
    """Channel arguments that give a connection up at an age; what runs on it goes on to its end."""
    return [("grpc.max_connection_age_ms", int(age_s * 1000))] if age_s else []
