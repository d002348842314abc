"""Helm itself installs, upgrades, tests, rolls back and uninstalls the chart, on a cluster that only stores."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from helm_python import Config
from helm_python.errors import HelmError

from tests.chart.rendering import CHART, NAMESPACE, RELEASE, SITUATIONS, Object, of_situation, overlay, situation
from tests.chart.small_cluster import SmallCluster
from tests.chart.test_life import immutable

TIMEOUT_S = 60
OF_OPERATORS: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("cert-manager.io/v1", "Certificate"): (
        "cert-manager",
        {"tls": {"certManager": {"enabled": False}, "mutual": False}},
    ),
    ("ray.io/v1", "RayJob"): ("KubeRay 1.7 or later", {"training": {"kuberay": {"enabled": False}}}),
    ("kueue.x-k8s.io/v1beta1", "LocalQueue"): (
        "Kueue",
        {"training": {"settings": {"launcher": {"queue": "", "queues": []}}}},
    ),
    ("keda.sh/v1alpha1", "ScaledObject"): ("KEDA", {"serving": {"autoscaling": {"kind": "hpa"}}}),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): (
        "the Prometheus Operator",
        {"monitoring": {"serviceMonitor": {"enabled": False}}},
    ),
    ("monitoring.coreos.com/v1", "PodMonitor"): (
        "the Prometheus Operator",
        {"monitoring": {"podMonitor": {"enabled": False}}},
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): (
        "the Prometheus Operator",
        {"monitoring": {"prometheusRule": {"enabled": False}}},
    ),
}
"""`API version, kind -> who brings it, and the values that do without it`."""
CHANGED = {"image": {"tag": "9.9.9"}, "defaults": {"podLabels": {"changed": "yes"}}}


KINDS = {(thing["apiVersion"], thing["kind"]) for name in SITUATIONS for thing in of_situation(name)} | {*OF_OPERATORS}


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster(KINDS, immutable).serving() as served:
        yield served


def connected(cluster: SmallCluster) -> Config:
    """Helm on a cluster."""
    server = {"kube_apiserver": cluster.address, "burst_limit": 1000, "qps": 1000.0}
    return Config(**server, namespace=NAMESPACE, storage_driver="memory")  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", OF_OPERATORS, ids=lambda kind: kind[1])
def test_an_api_that_the_cluster_lacks_is_a_sentence_that_says_what_to_do(missing: tuple[str, str]) -> None:
    who, without = OF_OPERATORS[missing]
    values = situation("distributed-gpu")
    with SmallCluster(KINDS - {missing}, immutable).serving() as cluster, connected(cluster) as helm:
        with pytest.raises(HelmError) as refused:
            helm.install(CHART, RELEASE, values, namespace=NAMESPACE, timeout=TIMEOUT_S)
        assert f"this cluster has no {'/'.join(missing)}: install {who} first, or switch the value off" in str(
            refused.value
        )
        assert snapshot(cluster) == {}
        helm.install(CHART, RELEASE, overlay(values, without), namespace=NAMESPACE, timeout=TIMEOUT_S)


def test_nothing_of_an_operator_is_needed_where_no_value_asks_for_it() -> None:
    for name in ("standalone", "distributed-cpu"):
        with SmallCluster(KINDS - {*OF_OPERATORS}, immutable).serving() as cluster, connected(cluster) as helm:
            helm.install(CHART, RELEASE, situation(name), namespace=NAMESPACE, timeout=TIMEOUT_S)


@pytest.mark.parametrize("name", [name for name in SITUATIONS if name != "standalone-throwaway"])
def test_a_release_comes_changes_goes_back_and_goes(cluster: SmallCluster, name: str) -> None:
    values = situation(name)
    with connected(cluster) as helm:
        helm.install(CHART, RELEASE, values, namespace=NAMESPACE, timeout=TIMEOUT_S)
        installed = snapshot(cluster)
        assert set(installed) == {where(thing) for thing in of_situation(name) if not is_hook(thing)}
        if "migrate" in "".join(path for _, path in cluster.writes):
            first = next(path for method, path in cluster.writes if method != "DELETE")
            assert first.endswith("/jobs/rel-anneal-migrate")

        helm.upgrade(CHART, RELEASE, overlay(values, CHANGED), timeout=TIMEOUT_S)
        upgraded = snapshot(cluster)
        assert set(upgraded) == set(installed)
        assert upgraded != installed
        assert secrets(upgraded) == secrets(installed)

        assert helm.test(RELEASE, timeout=TIMEOUT_S)
        assert helm.test(RELEASE, timeout=TIMEOUT_S)
        tested = {where(thing) for thing in of_situation(name) if thing["kind"] == "Pod"}
        assert set(snapshot(cluster)) == set(installed) | tested

        helm.rollback(RELEASE, timeout=TIMEOUT_S)
        assert {name: thing for name, thing in snapshot(cluster).items() if name not in tested} == installed

        helm.uninstall(RELEASE, timeout=TIMEOUT_S)
    kept = {name for name, thing in installed.items() if "helm.sh/resource-policy" in notes(thing)}
    assert set(snapshot(cluster)) == kept | tested


def snapshot(cluster: SmallCluster) -> dict[str, Object]:
    """What is stored, without what the cluster counts."""
    found = copy.deepcopy(cluster.stored)
    for thing in found.values():
        del thing["metadata"]["resourceVersion"]
    return {where(thing): thing for thing in found.values()}


def where(thing: Object) -> str:
    return f"{thing['kind']}/{thing['metadata']['name']}"


def notes(thing: Object) -> dict[str, Any]:
    found: dict[str, Any] = thing["metadata"].get("annotations", {})
    return found


def is_hook(thing: Object) -> bool:
    return "helm.sh/hook" in notes(thing)


def secrets(found: dict[str, Object]) -> list[Any]:
    return [thing["data"] for thing in found.values() if thing["kind"] == "Secret"]
