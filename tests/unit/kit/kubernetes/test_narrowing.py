"""An order narrows what its pods may have, and never widens it: both sides of each rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from anneal.kit.jobs.demand import Demand
from anneal.kit.jobs.kubernetes.narrowing import DemandTooWide, check, narrow, queue_of, working_pod
from anneal.kit.jobs.kubernetes.pod import resources
from anneal.kit.options import PodOptions
from anneal.kit.quantities import parse_quantity
from tests.unit.kit.kubernetes.helpers import options, with_ray

ALLOWED = PodOptions(cpu="2", memory="4Gi", gpus=2, node_selector={"pool": "gpu"})


@pytest.mark.parametrize(
    ("demand", "field", "value"),
    [
        ({"cpu": "2"}, "cpu", "2"),
        ({"cpu": "1999m"}, "cpu", "1999m"),
        ({"memory": "4096Mi"}, "memory", "4096Mi"),
        ({"memory": "1Gi"}, "memory", "1Gi"),
        ({"gpus": 2}, "gpus", 2),
        ({"gpus": 0}, "gpus", 0),
        ({"node_selector": {"zone": "a"}}, "node_selector", {"zone": "a", "pool": "gpu"}),
        ({"node_selector": {"pool": "gpu"}}, "node_selector", {"pool": "gpu"}),
        (
            {"node_selector": {"nvidia.com/gpu.product": "NVIDIA-A100", "empty": ""}},
            "node_selector",
            {"nvidia.com/gpu.product": "NVIDIA-A100", "empty": "", "pool": "gpu"},
        ),
    ],
)
def test_less_or_the_same_is_granted(demand: dict[str, Any], field: str, value: Any) -> None:
    granted = narrow(ALLOWED, Demand(**demand))
    assert getattr(granted, field) == value
    assert granted.model_copy(update={field: getattr(ALLOWED, field)}) == ALLOWED  # and nothing else changed


@pytest.mark.parametrize(
    ("cpu", "reserved"), [("", "500m"), ("2", "500m"), ("600m", "500m"), ("500m", "500m"), ("250m", "250m")]
)
def test_what_is_reserved_is_never_more_than_the_limit(cpu: str, reserved: str) -> None:
    granted = narrow(PodOptions(cpu="2", cpu_request="500m"), Demand(cpu=cpu))
    assert (granted.cpu, granted.cpu_request) == (cpu or "2", reserved)
    amounts = resources(granted)
    assert amounts["requests"] == {"cpu": reserved, "memory": "2Gi"}
    assert amounts["limits"] == {"cpu": cpu or "2", "memory": "2Gi"}


def test_without_a_request_all_of_the_limit_is_reserved() -> None:
    granted = narrow(PodOptions(cpu="2"), Demand(cpu="500m"))
    assert resources(granted)["requests"] == resources(granted)["limits"] == {"cpu": "500m", "memory": "2Gi"}


def test_a_request_beyond_the_limit_is_refused() -> None:
    with pytest.raises(ValidationError, match="cpu_request 3 is more than cpu 2"):
        PodOptions(cpu="2", cpu_request="3")


@pytest.mark.parametrize(
    ("demand", "field"),
    [
        ({"cpu": "2001m"}, "cpu"),
        ({"cpu": "many"}, "cpu"),
        ({"cpu": "0"}, "cpu"),
        ({"memory": "4097Mi"}, "memory"),
        ({"memory": "4.1Gi"}, "memory"),
        ({"gpus": 3}, "gpus"),
        ({"gpus": -1}, "gpus"),
        ({"node_selector": {"pool": "cpu"}}, "node_selector"),
        ({"node_selector": {"no label": "a"}}, "node_selector"),
        ({"node_selector": {"UP.example/zone": "a"}}, "node_selector"),
        ({"node_selector": {"zone": "-a"}}, "node_selector"),
        ({"node_selector": {"zone": "a" * 64}}, "node_selector"),
        ({"node_selector": {f"{'a' * 254}/zone": "a"}}, "node_selector"),
    ],
)
def test_more_is_refused_with_its_field(demand: dict[str, Any], field: str) -> None:
    with pytest.raises(DemandTooWide) as refused:
        narrow(ALLOWED, Demand(**demand))
    assert refused.value.reason == "DEMAND_TOO_WIDE"
    assert [path for path, _ in refused.value.violations] == [f"demand.{field}"]


def test_an_order_that_asks_for_nothing_gets_what_the_settings_say() -> None:
    assert narrow(ALLOWED, Demand()) == ALLOWED


@given(st.integers(1, 10_000))
def test_no_granted_memory_exceeds_the_allowed(mebibytes: int) -> None:
    try:
        granted = narrow(ALLOWED, Demand(memory=f"{mebibytes}Mi"))
    except DemandTooWide:
        assert mebibytes > 4096
    else:
        assert parse_quantity(granted.memory) <= parse_quantity(ALLOWED.memory)


def test_queues_that_are_configured_can_be_chosen() -> None:
    chosen = options(queue="main", queues=("night",))
    assert queue_of(chosen, Demand()) == "main"
    assert queue_of(chosen, Demand(queue="night")) == "night"
    with pytest.raises(DemandTooWide, match="jobs may wait in main, night"):
        queue_of(chosen, Demand(queue="other"))
    assert queue_of(options(), Demand()) == ""
    with pytest.raises(DemandTooWide, match="no queue is configured"):
        check(options(), Demand(queue="main"))


def test_on_ray_the_workers_are_what_is_narrowed() -> None:
    ray = with_ray()
    assert working_pod(ray, Demand(ray_workers=2)) == ray.ray.worker
    assert working_pod(ray, Demand()) == ray.pod
    assert working_pod(options(), Demand(ray_workers=2)) == options().pod
    check(ray, Demand(ray_workers=2, memory="16Gi"))
    with pytest.raises(DemandTooWide):
        check(ray, Demand(memory="16Gi"))
