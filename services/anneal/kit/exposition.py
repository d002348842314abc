"""The page that Prometheus reads."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app


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


def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> MetricsServer:
    """Serve the metrics of a registry until `shutdown` and `server_close` are called.

    Args:
        registry: what is shown.
        host: address to bind.
        port: 0 takes a free one, which `server_port` then says.

    Raises:
        OSError: the address cannot be bound.
    """
    kind = MetricsServer6 if ":" in host else MetricsServer
    server = make_server(host, port, page(registry), server_class=kind, handler_class=_Silent)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
