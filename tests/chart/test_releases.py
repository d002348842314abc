"""Helm itself installs, upgrades, tests, rolls back and uninstalls the chart, on a cluster that only stores."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from helm_python import Config

from tests.chart.rendering import CHART, NAMESPACE, RELEASE, SITUATIONS, Object, of_situation, overlay, situation
from tests.chart.small_cluster import SmallCluster
from tests.chart.test_life import immutable

TIMEOUT_S = 60
CHANGED = {"image": {"tag": "9.9.9"}, "defaults": {"podLabels": {"changed": "yes"}}}


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    kinds = {(thing["apiVersion"], thing["kind"]) for name in SITUATIONS for thing in of_situation(name)}
    with SmallCluster(kinds, immutable).serving() as served:
        yield served


@pytest.mark.parametrize("name", [name for name in SITUATIONS if name != "standalone-throwaway"])
def test_a_release_comes_changes_goes_back_and_goes(cluster: SmallCluster, name: str) -> None:
    values = situation(name)
    server = {"kube_apiserver": cluster.address, "burst_limit": 1000, "qps": 1000.0}
    with Config(**server, namespace=NAMESPACE, storage_driver="memory") as helm:  # type: ignore[arg-type]
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

        helm.rollback(RELEASE, timeout=TIMEOUT_S)
        assert snapshot(cluster) == installed

        helm.uninstall(RELEASE, timeout=TIMEOUT_S)
    kept = {name for name, thing in installed.items() if "helm.sh/resource-policy" in notes(thing)}
    assert set(snapshot(cluster)) == kept


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
