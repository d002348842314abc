"""What serving measures.

Adapters are labelled by the first 12 digits of their digest, the bare base as `base`. A digest that came from a caller
and was not found is `unknown`, or anybody could make series without end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

_FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BETWEEN_TOKENS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_LOAD_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_START_S = (1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)


UNKNOWN = "unknown"


def short(digest: str) -> str:
    """The label of a digest."""
    return digest.removeprefix("sha256:")[:12] or "base"


class Meters:
    """Serving's metrics on the process's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "anneal_serving_requests_total",
            "Requests by model, kind of request and how they ended.",
            ("base", "adapter", "kind", "outcome"),
            registry=registry,
        )
        self.tokens = Counter(
            "anneal_serving_tokens_total",
            "Tokens by model and direction (prompt, completion, scored).",
            ("base", "adapter", "direction"),
            registry=registry,
        )
        self.first_token = Histogram(
            "anneal_serving_time_to_first_token_seconds",
            "From accepting a streamed request to its first token.",
            ("base", "adapter"),
            registry=registry,
            buckets=_FIRST_TOKEN_S,
        )
        self.between_tokens = Histogram(
            "anneal_serving_inter_token_seconds",
            "Between two pieces of a streamed answer.",
            ("base", "adapter"),
            registry=registry,
            buckets=_BETWEEN_TOKENS_S,
        )
        self.split = Counter(
            "anneal_serving_deployment_requests_total",
            "Requests by deployment and the side of its canary split.",
            ("deployment", "canary"),
            registry=registry,
        )
        self.adapter_load = Histogram(
            "anneal_serving_adapter_load_seconds",
            "Fetching, checking and loading an adapter.",
            ("base", "adapter"),
            registry=registry,
            buckets=_LOAD_S,
        )
        self.adapter_refusals = Counter(
            "anneal_serving_adapter_refusals_total", "Adapters refused, by cause.", ("cause",), registry=registry
        )
        self.resident = Gauge(
            "anneal_serving_adapters_resident", "Adapters in an engine.", ("base",), registry=registry
        )
        self.evictions = Counter(
            "anneal_serving_adapter_evictions_total", "Adapters that made room.", ("base",), registry=registry
        )
        self.engine_start = Histogram(
            "anneal_serving_engine_start_seconds", "Starting an engine.", ("base",), registry=registry, buckets=_START_S
        )
        self.engine_deaths = Counter(
            "anneal_serving_engine_deaths_total", "Engines that ended unasked.", ("base",), registry=registry
        )
        self.engines = Gauge("anneal_serving_engines", "Engines that run.", registry=registry)


class EngineMetrics:
    """Collects what the engines themselves export (`vllm:...`), as last read from each."""

    def __init__(self, texts: Callable[[], Iterable[str]]) -> None:
        self._texts = texts

    def collect(self) -> Iterable[Any]:
        """The metric families of all engines, merged by name; process metrics are left to the process's own."""
        families: dict[str, Any] = {}
        for text in self._texts():
            for family in text_string_to_metric_families(text):
                if not family.name.startswith("vllm:"):
                    continue
                if family.name in families:
                    families[family.name].samples.extend(family.samples)
                else:
                    families[family.name] = family
        return families.values()
