"""What service accounts may do: exactly what the launcher asks the cluster for."""

from __future__ import annotations

import json

import pytest

from anneal.kit.jobs.kubernetes.resources import PERMISSIONS
from deploy.local.chart_schema import LAUNCHERS
from tests.chart.rendering import SITUATIONS, Object, named, of_kind, of_situation, services

RAY = "ray.io"
WITHOUT_RAY = {permission for permission in PERMISSIONS if permission[0] != RAY}


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_role_allows_what_its_launcher_asks_for_and_nothing_else(name: str) -> None:
    things = of_situation(name)
    launching = [pod for pod in services(things) if pod.component in LAUNCHERS]
    assert len(of_kind(things, "Role")) == len(launching)
    for pod in launching:
        with_ray = json.loads(pod.env.get("ANNEAL_LAUNCHER__RAY") or "{}").get("enabled", False)
        role = named(things, "Role", pod.owner["metadata"]["name"])
        assert allowed(role) == (PERMISSIONS if with_ray else WITHOUT_RAY)
        (of_roles,) = (rule for rule in role["rules"] if rule["resources"] == ["roles"])
        assert of_roles["resourceNames"] == [pod.env["ANNEAL_LAUNCHER__ROLE"]] == [role["metadata"]["name"]]
        (subject,) = named(things, "RoleBinding", role["metadata"]["name"])["subjects"]
        assert subject == {"kind": "ServiceAccount", "name": pod.spec["serviceAccountName"], "namespace": "ns"}


def test_only_training_with_kuberay_may_touch_ray_jobs() -> None:
    touching = {
        (name, role["metadata"]["name"])
        for name in SITUATIONS
        for role in of_kind(of_situation(name), "Role")
        if any(group == RAY for group, _, _ in allowed(role))
    }
    assert touching == {("distributed-gpu", "rel-anneal-training")}


def test_nothing_reaches_beyond_its_namespace() -> None:
    for name in SITUATIONS:
        assert not of_kind(of_situation(name), "ClusterRole", "ClusterRoleBinding")


def allowed(role: Object) -> set[tuple[str, str, str]]:
    """API group, resource and verb of all that a Role allows."""
    return {
        (group, plural, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for plural in rule["resources"]
        for verb in rule["verbs"]
    }
