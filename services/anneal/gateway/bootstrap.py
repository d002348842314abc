"""The one file that chooses the gateway's real adapters."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from anneal.gateway.adapters.http import Gateway
from anneal.gateway.adapters.server import HttpServer
from anneal.gateway.adapters.upstream import Upstream
from anneal.gateway.domain.access import Key
from anneal.gateway.settings import GatewayOptions, Settings
from anneal.kit import logs
from anneal.kit.exposition import serve_http
from anneal.kit.metrics import Metrics
from anneal.kit.rpc.channels import Channels
from anneal.kit.rpc.ports import PortTaken
from anneal.kit.rpc.readiness import Readiness

if TYPE_CHECKING:
    from anneal.kit.runtime import Runtime


def open_upstream(channels: Channels, options: GatewayOptions) -> Upstream:
    """The services behind the gateway."""
    return Upstream(
        channels.get("registry"), lambda base_model: channels.get("serving", base_model), options.deadline_s
    )


def build(channels: Channels, metrics: Metrics, options: GatewayOptions) -> HttpServer:
    """The gateway on its port, not yet serving.

    Raises:
        PortTaken: the address cannot be bound.
    """
    gateway = Gateway(
        open_upstream(channels, options),
        metrics.registry,
        keys=[Key(key.name, key.sha256, key.project) for key in options.keys],
        project=options.project,
        max_body_bytes=options.max_body_bytes,
    )
    return HttpServer(gateway.app(), host=options.host, port=options.port, drain_s=options.drain_s)


async def start(runtime: Runtime, options: GatewayOptions | None = None) -> tuple[HttpServer, str]:
    """Serve beside the other services of this process; returns the server and its `host:port`.

    Raises:
        PortTaken: the address cannot be bound.
    """
    server = build(runtime.channels, runtime.metrics, options or GatewayOptions())
    await server.start()
    return server, server.address


class GatewayProcess:
    """The gateway in a process of its own, with its page for Prometheus and the probes beside it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started = AsyncExitStack()
        self.readiness = Readiness()
        self.address = ""
        self.metrics_port: int | None = None

    async def start(self) -> None:
        """Serve; what fails half-way stops what it has started.

        Raises:
            PortTaken: an address cannot be bound.
            Misconfigured: a file of the TLS options cannot be read.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        settings, started = self._settings, self._started
        self.readiness.begin()
        started.push_async_callback(self.readiness.end)
        metrics = Metrics()
        options = settings.metrics
        try:
            page = serve_http(metrics.registry, self.readiness, options.host, options.port or 0)
        except OSError as error:
            raise PortTaken(
                error.errno, f"cannot serve metrics on {options.host}:{options.port}: {error.strerror}"
            ) from None
        self.metrics_port = page.server_port
        started.callback(page.server_close)
        started.callback(page.shutdown)
        tokens = settings.bearer_tokens()
        channels = Channels(settings.addresses, tokens[0] if tokens else "", settings.tls)
        started.push_async_callback(channels.close)
        server = build(channels, metrics, settings.gateway)
        started.push_async_callback(server.stop)
        await server.start()
        self.address = server.address
        self._meet_registry(channels)
        self.readiness.clear("start")
        logs.logger("gateway").info("serving", address=self.address, metrics_port=self.metrics_port)

    def _meet_registry(self, channels: Channels) -> None:
        """Be not ready until the registry has answered once.

        From then on a registry that is away is a 503 of each request: an app is told so, and when to come back, which a
        connection that nobody accepts does not say.
        """
        upstream, project = open_upstream(channels, self._settings.gateway), self._settings.gateway.project
        self.readiness.object_to("registry", "the registry has not been asked yet")
        meeting = asyncio.create_task(self.readiness.wait_for("registry", lambda: upstream.reach_registry(project)))

        async def give_up() -> None:
            meeting.cancel()
            await asyncio.gather(meeting, return_exceptions=True)

        self._started.push_async_callback(give_up)

    async def stop(self) -> None:
        """Take no more requests, let running answers end, close everything."""
        self.readiness.object_to("start", "stopping")
        await self._started.aclose()
