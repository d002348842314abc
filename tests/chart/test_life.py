"""Install, upgrade, rollback, uninstall: what may change, what stays, and what is left behind."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from helm_python.chart import Chart, package

from tests.chart.rendering import (
    CHART,
    NAMESPACE,
    RELEASE,
    SITUATIONS,
    Object,
    objects,
    of_kind,
    of_situation,
    overlay,
    parsed,
    pods,
    rendered,
    situation,
)

every_situation = pytest.mark.parametrize("name", SITUATIONS)
CHANGES: dict[str, Any] = {
    "image": {"tag": "9.9.9"},
    "commonLabels": {"team": "other"},
    "commonAnnotations": {"changed": "yes"},
    "defaults": {"podLabels": {"changed": "yes"}, "podAnnotations": {"changed": "yes"}},
}


def immutable(thing: Object) -> Any:
    """What a cluster refuses to change in an object that exists."""
    spec = thing.get("spec", {})
    if thing["kind"] == "Deployment":
        return spec["selector"]
    if thing["kind"] == "StatefulSet":
        return {key: spec.get(key) for key in ("selector", "serviceName", "volumeClaimTemplates")}
    if thing["kind"] == "Service":
        return spec.get("clusterIP")
    if thing["kind"] == "PersistentVolumeClaim":
        return spec
    if thing["kind"] == "RoleBinding":
        return thing["roleRef"]
    return None


@every_situation
def test_an_upgrade_changes_nothing_that_a_cluster_keeps(name: str, tmp_path: Path) -> None:
    changed = overlay(situation(name), CHANGES)
    with Chart.load(package(CHART, destination=tmp_path, version="9.9.9", app_version="9.9.9")) as newer:
        after = parsed(newer.render(changed, name="rel", namespace="ns", is_upgrade=True, revision=2))
    found = {(thing["kind"], thing["metadata"]["name"]): thing for thing in after}
    for thing in of_situation(name):
        same = found[thing["kind"], thing["metadata"]["name"]]
        assert immutable(same) == immutable(thing)
    assert "9.9.9" in str(after)


@every_situation
def test_selectors_have_only_what_never_changes(name: str) -> None:
    stable = {f"app.kubernetes.io/{label}" for label in ("name", "instance", "component")} | {"anneal.dev/base"}
    for thing in of_kind(of_situation(name), "Deployment", "StatefulSet"):
        assert set(thing["spec"]["selector"]["matchLabels"]) <= stable
    for thing in of_kind(of_situation(name), "Service"):
        assert set(thing["spec"]["selector"]) <= stable


@every_situation
def test_no_two_workloads_select_each_others_pods(name: str) -> None:
    things = of_kind(of_situation(name), "Deployment", "StatefulSet")
    for thing in things:
        wanted = thing["spec"]["selector"]["matchLabels"].items()
        taken = [other for other in things if wanted <= other["spec"]["template"]["metadata"]["labels"].items()]
        assert taken == [thing]


def test_migrations_run_before_install_and_upgrade_and_leave_nothing() -> None:
    (job,) = of_kind(of_situation("distributed-gpu"), "Job")
    notes = job["metadata"]["annotations"]
    assert set(notes["helm.sh/hook"].split(",")) == {"pre-install", "pre-upgrade"}
    assert set(notes["helm.sh/hook-delete-policy"].split(",")) == {"before-hook-creation", "hook-succeeded"}
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    (pod,) = pods([job])
    assert pod.container["command"] == ["python", "-m", "anneal.registry.migrate"]
    # Nothing of the release is there before it: no account, no claim, no certificate.
    assert "serviceAccountName" not in pod.spec
    assert all(set(volume) == {"name", "emptyDir"} for volume in pod.spec["volumes"])


@every_situation
def test_the_pod_of_helm_test_is_a_hook_and_stays_until_its_log_was_read(name: str) -> None:
    found = of_kind(of_situation(name), "Pod")
    assert len(found) == (0 if name == "standalone-throwaway" else 1)
    for pod in found:
        assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
        assert pod["metadata"]["annotations"]["helm.sh/hook-delete-policy"] == "before-hook-creation"


@pytest.mark.parametrize(("keep", "when_deleted"), [(True, "Retain"), (False, "Delete")])
def test_the_claim_of_standalone_stays_when_asked_to(keep: bool, when_deleted: str) -> None:
    (one,) = of_kind(objects({"standalone": {"persistence": {"keep": keep}}}), "StatefulSet")
    policy = one["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert policy == {"whenDeleted": when_deleted, "whenScaled": "Retain"}


def test_only_claims_that_were_asked_to_stay_do() -> None:
    kept = {
        (name, thing["metadata"]["name"])
        for name in SITUATIONS
        for thing in of_situation(name)
        if "helm.sh/resource-policy" in thing["metadata"].get("annotations", {})
    }
    assert kept == {("distributed-gpu", "rel-anneal-scratch"), ("distributed-cloud", "rel-an-ingestion-data")}


def test_the_secret_that_is_made_opens_what_is_made_with_it() -> None:
    (secret,) = of_kind(objects(), "Secret")
    data = {key: b64decode(value).decode() for key, value in secret["data"].items()}
    assert json.loads(data["tokens"]) == [data["token"]]
    (key,) = json.loads(data["gateway-keys"])
    assert key["sha256"] == sha256(data["api-key"].encode()).hexdigest()
    assert min(len(data["token"]), len(data["api-key"])) >= 48


def test_no_secret_is_made_beside_one_that_is_given() -> None:
    for name in SITUATIONS:
        made = of_kind(of_situation(name), "Secret")
        assert len(made) == (1 if name in ("standalone", "standalone-throwaway") else 0)


@every_situation
def test_the_notes_have_three_steps_and_their_commands(name: str) -> None:
    notes = rendered(situation(name))["anneal/templates/NOTES.txt"]
    commands = re.findall(
        r"^   (helm test|anneal config from-release|kubectl .*port-forward|curl) ", notes, re.MULTILINE
    )
    assert [command.split()[0] for command in commands] == ["helm", "anneal", "kubectl", "curl"]
    assert f"   anneal config from-release {NAMESPACE}/{RELEASE}" in notes
    assert re.findall(r"^\d\.", notes, re.MULTILINE) == ["1.", "2.", "3."]


def test_the_notes_warn_of_what_is_open() -> None:
    assert "networkPolicy.enabled is false" in _notes("standalone-throwaway")
    assert "everything is gone with the pod" in _notes("standalone-throwaway")
    assert "no TLS is configured" in _notes("distributed-cpu")
    assert "WARNING" not in _notes("standalone") + _notes("distributed-gpu")


def _notes(name: str) -> str:
    return rendered(situation(name))["anneal/templates/NOTES.txt"]
