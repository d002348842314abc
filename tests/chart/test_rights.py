"""What service accounts may do: exactly what the launcher does."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import anneal.kit.jobs.kubernetes
from anneal.kit.jobs.kubernetes.job import JobForm
from anneal.kit.jobs.kubernetes.rayjob import RayJobForm
from deploy.local.chart_schema import LAUNCHERS
from tests.chart.rendering import SITUATIONS, Object, named, of_kind, of_situation, services

LAUNCHER = Path(anneal.kit.jobs.kubernetes.__file__).parent
_launcher = importlib.import_module("anneal.kit.jobs.kubernetes.launcher")
JOBS, RAY_JOBS, PODS, SECRETS = JobForm.resource, RayJobForm.resource, _launcher.PODS, _launcher.SECRETS
RESOURCES = (JOBS, RAY_JOBS, PODS, SECRETS)
_CALL = re.compile(r"_cluster\.(create|get|delete|list|watch)\(\s*(?:self\._)?([\w.]+)")


def test_the_verbs_of_the_client_are_those_that_the_launcher_uses() -> None:
    called = set(_called())
    for resource in RESOURCES:
        assert {verb for name, verb in called if name == resource.plural} == set(resource.verbs), str(resource)


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_role_allows_what_its_launcher_does_and_nothing_else(name: str) -> None:
    things = of_situation(name)
    launching = [pod for pod in services(things) if pod.component in LAUNCHERS]
    assert len(of_kind(things, "Role")) == len(launching)
    for pod in launching:
        with_ray = "true" in (pod.env.get("ANNEAL_LAUNCHER__RAY") or "").partition('"enabled":')[2][:4]
        wanted = [resource for resource in RESOURCES if resource is not RAY_JOBS or with_ray]
        role = named(things, "Role", pod.owner["metadata"]["name"])
        assert _allowed(role) == {(one.group, one.plural, frozenset(one.verbs)) for one in wanted}
        (subject,) = named(things, "RoleBinding", role["metadata"]["name"])["subjects"]
        assert subject == {"kind": "ServiceAccount", "name": pod.spec["serviceAccountName"], "namespace": "ns"}


def test_only_training_with_kuberay_may_touch_ray_jobs() -> None:
    touching = {
        (name, role["metadata"]["name"])
        for name in SITUATIONS
        for role in of_kind(of_situation(name), "Role")
        for group, _, _ in _allowed(role)
        if group == "ray.io"
    }
    assert touching == {("distributed-gpu", "rel-anneal-training")}


def test_nothing_reaches_beyond_its_namespace() -> None:
    for name in SITUATIONS:
        assert not of_kind(of_situation(name), "ClusterRole", "ClusterRoleBinding")


def _allowed(role: Object) -> set[tuple[str, str, frozenset[str]]]:
    return {
        (group, plural, frozenset(rule["verbs"]))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for plural in rule["resources"]
    }


def _called() -> Iterator[tuple[str, str]]:
    """Resource and verb of every call that the launcher makes; what it mirrors, it lists and watches."""
    either = (JOBS, RAY_JOBS)
    meant = {"SECRETS": (SECRETS,), "form.resource": either, "resource": either}
    mirrored = (*either, PODS)
    for file in sorted(LAUNCHER.glob("*.py")):
        for verb, what in _CALL.findall(file.read_text(encoding="utf-8")):
            for resource in mirrored if file.stem == "watch" else meant[what]:
                yield resource.plural, verb
