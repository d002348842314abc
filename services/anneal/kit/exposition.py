"""What a process says over plain HTTP: the page that Prometheus reads, and the answers to a cluster's probes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app


class Vitals(Protocol):
    """Whether a process lives, and whether requests may come; each with a line about it."""

    def live(self) -> tuple[bool, str]:
        """Whether it works."""

    def ready(self) -> tuple[bool, str]:
        """Whether requests may come."""


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Serves metrics over HTTP on threads of its own."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Bind, without asking the network how this host is called."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)
        self.setup_environ()


class MetricsServer6(MetricsServer):
    """The same on IPv6."""

    address_family = socket.AF_INET6


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line every few seconds says nothing."""


def page(registry: CollectorRegistry) -> Callable[..., Iterable[bytes]]:
    """The page as a WSGI application, in Prometheus's text format whatever else the reader would take.

    Asked for OpenMetrics, which Prometheus prefers, prometheus_client 0.26 writes samples of `vllm:...` as `vllm_...`.
    """
    app: Callable[..., Iterable[bytes]] = make_wsgi_app(registry)

    def plain(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return app({**environ, "HTTP_ACCEPT": "text/plain"}, start_response)

    return plain


def site(registry: CollectorRegistry, vitals: Vitals | None) -> Callable[..., Iterable[bytes]]:
    """`/livez` and `/readyz` where there are vitals, and the metrics on every other path."""
    metrics = page(registry)
    probes = {} if vitals is None else {"/livez": vitals.live, "/readyz": vitals.ready}

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        probe = probes.get(environ.get("PATH_INFO", ""))
        if probe is None:
            return metrics(environ, start_response)
        well, line = probe()
        start_response("200 OK" if well else "503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{line}\n".encode()]

    return answer


def serve_http(registry: CollectorRegistry, vitals: Vitals | None, host: str, port: int) -> MetricsServer:
    """Serve the metrics of a registry, and the probes, until `shutdown` and `server_close` are called.

    Args:
        registry: what is shown.
        vitals: what the probes say; None serves metrics only.
        host: address to bind.
        port: 0 takes a free one, which `server_port` then says.

    Raises:
        OSError: the address cannot be bound.
    """
    kind = MetricsServer6 if ":" in host else MetricsServer
    server = make_server(host, port, site(registry, vitals), server_class=kind, handler_class=_Silent)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
