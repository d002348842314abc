"""The page of metrics, as a Prometheus asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import httpx2
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from anneal.kit.exposition import MetricsServer, serve_http

# What Prometheus 2.42 and 3.x send.
ACCEPTS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
)


class Engine(Collector):
    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily("vllm:num_requests_running", "Running.", labels=("base",))
        family.add_metric(("a",), 2)
        return [family]


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    registry = CollectorRegistry()
    registry.register(Engine())
    running = serve_http(registry, None, "127.0.0.1", 0)
    yield running
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize("accept", ACCEPTS)
def test_names_stay_as_they_are_whoever_asks(server: MetricsServer, accept: str) -> None:
    answer = httpx2.get(f"http://127.0.0.1:{server.server_port}/metrics", headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'vllm:num_requests_running{base="a"} 2.0' in answer.text.splitlines()


def test_a_taken_port_is_an_error_of_the_system(server: MetricsServer) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        serve_http(CollectorRegistry(), None, "127.0.0.1", server.server_port)
