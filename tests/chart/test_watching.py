"""Monitors, rules and dashboards: those of deploy/, off by default, found by who looks for them."""

from __future__ import annotations

import json
from itertools import chain

import pytest

from tests.chart.rendering import CHART, ROOT, load, named, objects, of_kind, of_situation, services, situation

OFF_BY_DEFAULT = ("ServiceMonitor", "PodMonitor", "PrometheusRule", "ScaledObject", "Certificate", "ConfigMap")
RULES = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yaml"))
DASHBOARDS = sorted((ROOT / "deploy" / "dashboards").glob("*.json"))


def test_the_chart_has_no_symbolic_links_of_which_helm_would_warn_at_every_command() -> None:
    assert [path for path in CHART.rglob("*") if path.is_symlink()] == []


@pytest.mark.parametrize("name", ["standalone", "distributed-cpu"])
def test_nothing_that_needs_an_operator_is_made_unless_asked_for(name: str) -> None:
    assert of_kind(of_situation(name), *OFF_BY_DEFAULT) == []


def test_rules_are_those_that_promtool_tests() -> None:
    (made,) = of_kind(of_situation("distributed-gpu"), "PrometheusRule")
    assert made["spec"]["groups"] == list(chain.from_iterable(load(path)["groups"] for path in RULES))
    assert made["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_dashboards_are_those_of_the_repository_with_the_label_of_the_sidecar() -> None:
    made = of_kind(of_situation("distributed-gpu"), "ConfigMap")
    assert len(made) == len(DASHBOARDS)
    for path in DASHBOARDS:
        one = named(made, "ConfigMap", f"rel-anneal-dashboard-{path.stem}")
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert json.loads(one["data"][f"anneal-{path.stem}.json"]) == json.loads(path.read_text(encoding="utf-8"))


def test_the_folder_of_dashboards_can_be_named() -> None:
    made = of_kind(of_situation("standalone-own"), "ConfigMap")
    assert {one["metadata"]["annotations"]["grafana_folder"] for one in made} == {"Anneal"}


@pytest.mark.parametrize("name", ["standalone-own", "distributed-gpu"])
def test_the_service_monitor_finds_every_service_once(name: str) -> None:
    things = of_situation(name)
    (monitor,) = of_kind(things, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    found = [one for one in of_kind(things, "Service") if wanted <= one["metadata"]["labels"].items()]
    assert len(found) == len(services(things))
    for endpoint in monitor["spec"]["endpoints"]:
        assert all(endpoint["port"] in {port["name"] for port in one["spec"]["ports"]} for one in found)


def test_ray_is_scraped_only_where_kuberay_is() -> None:
    (monitor,) = of_kind(of_situation("distributed-gpu"), "PodMonitor")
    assert monitor["spec"]["selector"]["matchLabels"] == {"anneal.dev/owner": "rel-anneal-training"}
    values = situation("distributed-gpu")
    values["training"]["kuberay"]["enabled"] = False
    assert of_kind(objects(values), "PodMonitor") == []


def test_keda_asks_for_the_queue_of_the_pods_that_it_scales() -> None:
    (scaled,) = of_kind(of_situation("distributed-gpu"), "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    wanted = 'sum(vllm:num_requests_waiting{namespace="ns", pod=~"rel-anneal-serving-llama-8b-[a-z0-9]+-[a-z0-9]+"})'
    assert trigger["metadata"]["query"] == wanted
