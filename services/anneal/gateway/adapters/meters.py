"""What the gateway measures."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class HttpMeters:
    """The gateway's metrics on the process's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("route", "status")
        self.requests = Counter("anneal_gateway_requests_total", "HTTP requests.", labels, registry=registry)
        self.seconds = Histogram(
            "anneal_gateway_request_seconds",
            "From a request to the head of its answer.",
            ("route",),
            registry=registry,
            buckets=_LATENCY_S,
        )
        self.streams = Gauge("anneal_gateway_streams", "Streams being written.", registry=registry)
