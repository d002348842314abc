"""What serving exports of its engines, read when somebody asks."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from anneal.serving.domain.errors import AdapterMissing
from anneal.serving.meters import EngineMetrics, Meters, Occupancy, OccupancyMetrics

DIGEST = "sha256:" + "a" * 64
BASE = {"base": "a" * 12}


def test_an_engine_is_shown_while_it_holds_something() -> None:
    engines = [Occupancy("a" * 12, ["1" * 12, "2" * 12], slots=4, requests=3, max_requests=64)]
    registry = CollectorRegistry()
    registry.register(OccupancyMetrics(lambda: engines))
    value = registry.get_sample_value
    assert value("anneal_serving_adapters_resident", BASE) == 2
    assert value("anneal_serving_adapter_slots", BASE) == 4
    assert value("anneal_serving_adapter_resident", {**BASE, "adapter": "2" * 12}) == 1
    assert value("anneal_serving_requests_in_flight", BASE) == 3
    assert value("anneal_serving_requests_limit", BASE) == 64
    engines.clear()
    assert value("anneal_serving_adapters_resident", BASE) is None


@pytest.mark.parametrize(("error", "reason"), [(AdapterMissing("none"), "ADAPTER_MISSING"), (KeyError("x"), "bug")])
def test_a_load_that_fails_is_counted_by_reason(error: Exception, reason: str) -> None:
    registry = CollectorRegistry()
    meters = Meters(registry)
    meters.expect_base("a" * 12)
    value = registry.get_sample_value
    assert value("anneal_serving_adapter_load_failures_total", {**BASE, "reason": "ENGINE_DOWN"}) == 0
    with pytest.raises(type(error)), meters.loading("a" * 12):
        raise error
    assert value("anneal_serving_adapter_load_failures_total", {**BASE, "reason": reason}) == 1


def test_what_engines_say_of_themselves_carries_their_base() -> None:
    page = "\n".join(
        [
            "# TYPE vllm:num_requests_running gauge",
            f'vllm:num_requests_running{{engine="0",model_name="{DIGEST}"}} 2.0',
            "# TYPE python_info gauge",
            "python_info 1.0",
        ]
    )
    other = page.replace("a" * 64, "b" * 64)
    registry = CollectorRegistry()
    registry.register(EngineMetrics(lambda: [page, other]))
    labels = {"engine": "0", "model_name": DIGEST, **BASE}
    assert registry.get_sample_value("vllm:num_requests_running", labels) == 2
    assert sum(len(family.samples) for family in registry.collect()) == 2
