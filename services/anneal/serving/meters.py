"""What serving measures.

Adapters are labelled by the first 12 digits of their digest, the bare base as `base`. A digest that came from a caller
and was not found is `unknown`, or anybody could make series without end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from anneal.kit.engine.adapters import AdapterRefused
from anneal.kit.errors import Refusal
from anneal.serving.domain.errors import AdapterMissing, EngineBusy, EngineDown

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
        self.load_failures = Counter(
            "anneal_serving_adapter_load_failures_total",
            "Adapters that could not be loaded, by reason.",
            ("base", "reason"),
            registry=registry,
        )
        self.evictions = Counter(
            "anneal_serving_adapter_evictions_total",
            "Adapters that made room.",
            ("base", "adapter"),
            registry=registry,
        )
        self.engine_start = Histogram(
            "anneal_serving_engine_start_seconds", "Starting an engine.", ("base",), registry=registry, buckets=_START_S
        )
        self.engine_deaths = Counter(
            "anneal_serving_engine_deaths_total", "Engines that ended unasked.", ("base",), registry=registry
        )
        self.engines = Gauge("anneal_serving_engines", "Engines that run.", registry=registry)

    def expect_base(self, base: str) -> None:
        """Show a base from zero: a series that begins with its first event hides that one from `increase`."""
        self.engine_deaths.labels(base)
        self.expect_answers(base, "base")
        for refusal in (AdapterMissing, AdapterRefused, EngineBusy, EngineDown):
            self.load_failures.labels(base, refusal.reason)

    def expect_answers(self, base: str, adapter: str) -> None:
        """Show from zero, for the same reason, how fast a model answers and how often it makes room."""
        for histogram in (self.first_token, self.between_tokens):
            histogram.labels(base, adapter)
        if adapter != "base":
            self.evictions.labels(base, adapter)

    @contextmanager
    def loading(self, base: str) -> Iterator[None]:
        """Count a load that fails, by the reason of its refusal."""
        try:
            yield
        except Refusal as refusal:
            self.load_failures.labels(base, refusal.reason).inc()
            raise
        except Exception:
            self.load_failures.labels(base, "bug").inc()
            raise


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What an engine holds right now.

    Attributes:
        base: its label.
        adapters: labels of the adapters in it.
        slots: adapters it has room for.
        requests: those it answers.
        max_requests: one more is refused as busy.
    """

    base: str
    adapters: Sequence[str]
    slots: int
    requests: int
    max_requests: int


class OccupancyMetrics(Collector):
    """Collects what the engines hold when somebody reads it, so that nothing stays behind of one that ended."""

    def __init__(self, occupancies: Callable[[], Iterable[Occupancy]]) -> None:
        self._occupancies = occupancies

    def describe(self) -> Sequence[GaugeMetricFamily]:
        """The families, empty."""
        return [
            GaugeMetricFamily(f"anneal_serving_{name}", text, labels=labels)
            for name, text, labels in (
                ("adapters_resident", "Adapters in an engine.", ("base",)),
                ("adapter_slots", "Adapters an engine has room for.", ("base",)),
                ("adapter_resident", "1 for each adapter in an engine.", ("base", "adapter")),
                ("requests_in_flight", "Requests an engine answers.", ("base",)),
                ("requests_limit", "Requests an engine takes at once.", ("base",)),
            )
        ]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The families."""
        families = self.describe()
        count, slots, resident, requests, limit = families
        for one in self._occupancies():
            count.add_metric((one.base,), len(one.adapters))
            slots.add_metric((one.base,), one.slots)
            requests.add_metric((one.base,), one.requests)
            limit.add_metric((one.base,), one.max_requests)
            for adapter in one.adapters:
                resident.add_metric((one.base, adapter), 1)
        return families


class EngineMetrics:
    """Collects what the engines themselves export (`vllm:...`), as last read from each."""

    def __init__(self, texts: Callable[[], Iterable[str]]) -> None:
        self._texts = texts

    def collect(self) -> Iterable[Any]:
        """The metric families of all engines, merged by name; process metrics are left to the process's own.

        vLLM names a model by its whole digest; `base` is added, as everything else here is labelled.
        """
        families: dict[str, Any] = {}
        for text in self._texts():
            for family in text_string_to_metric_families(text):
                if not family.name.startswith("vllm:"):
                    continue
                family.samples = [_with_base(sample) for sample in family.samples]
                if family.name in families:
                    families[family.name].samples.extend(family.samples)
                else:
                    families[family.name] = family
        return families.values()


def _with_base(sample: Any) -> Any:
    return sample._replace(labels={**sample.labels, "base": short(sample.labels.get("model_name", ""))})
