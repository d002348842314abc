"""The one file that chooses the gateway's real adapters."""

from __future__ import annotations

from anneal.gateway.adapters.http import Gateway
from anneal.gateway.adapters.server import HttpServer
from anneal.gateway.adapters.upstream import Upstream
from anneal.gateway.domain.access import Key
from anneal.gateway.settings import GatewayOptions
from anneal.kit.metrics import Metrics
from anneal.kit.rpc.channels import Channels
from anneal.kit.runtime import Runtime


def build(channels: Channels, metrics: Metrics, options: GatewayOptions) -> HttpServer:
    """The gateway on its port, not yet serving.

    Raises:
        PortTaken: the address cannot be bound.
    """
    upstream = Upstream(channels.get("registry"), channels.get("serving"), options.deadline_s)
    gateway = Gateway(
        upstream,
        metrics.registry,
        keys=[Key(key.name, key.sha256, key.project) for key in options.keys],
        project=options.project,
        max_body_bytes=options.max_body_bytes,
    )
    return HttpServer(gateway.app(), host=options.host, port=options.port, drain_s=options.drain_s)


async def start(runtime: Runtime, *, port: int = 0, options: GatewayOptions | None = None) -> tuple[HttpServer, str]:
    """Serve beside the other services of this process; returns the server and its `host:port`.

    Raises:
        PortTaken: the address cannot be bound.
    """
    chosen = (options or GatewayOptions()).model_copy(update={"port": port} if port else {})
    server = build(runtime.channels, runtime.metrics, chosen)
    await server.start()
    return server, server.address
