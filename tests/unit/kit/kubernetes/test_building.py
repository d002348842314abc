"""Objects as they are sent: valid, restricted, found again, and without a secret in the wrong place."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.kit.jobs.kubernetes.job import JobForm
from anneal.kit.jobs.kubernetes.names import key_of, object_name
from anneal.kit.jobs.kubernetes.rayjob import RayJobForm
from anneal.kit.jobs.kubernetes.secret import build_secret
from anneal.kit.options import OWN_VOLUMES, LauncherOptions, PodOptions
from tests.fixtures.kubernetes_rules import NO_CRD, Wrong, ray_job_schema, templates, validate
from tests.unit.kit.kubernetes.helpers import DATA, OPERATION, attempt, options, with_ray

FULL: dict[str, Any] = {
    "image_pull_secrets": ("pull",),
    "service_account": "jobs",
    "env": {"AWS_REGION": "eu"},
    "env_from_secrets": ("store",),
    "queue": "main",
    "labels": {"team": "a"},
    "annotations": {"note": "b"},
    "deadline_s": 60,
    "volumes": ({"name": "certificates", "configMap": {"name": "ca"}},),
    "mounts": ({"name": "certificates", "mountPath": "/etc/ca", "readOnly": True},),
}
PLACED = PodOptions(
    gpus=2,
    node_selector={"pool": "gpu"},
    tolerations=({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},),
    affinity={"podAntiAffinity": {}},
    priority_class="batch",
    runtime_class="nvidia",
)


def job(given: LauncherOptions, **demand: Any) -> dict[str, Any]:
    return JobForm(given, DATA).build(attempt(**demand))


def ray_job(given: LauncherOptions, **demand: Any) -> dict[str, Any]:
    return RayJobForm(given, DATA).build(attempt(**{"ray_workers": 2, **demand}))


@pytest.mark.parametrize("given", [options(), options(**FULL, pod=PLACED), options(scratch_claim="scratch")])
def test_jobs_are_valid_and_restricted(given: LauncherOptions) -> None:
    validate(job(given))


@pytest.mark.parametrize("given", [with_ray(), with_ray(**FULL)])
def test_ray_jobs_are_valid_and_restricted(given: LauncherOptions) -> None:
    validate(ray_job(given))


@pytest.mark.skipif(ray_job_schema() is None, reason=NO_CRD)
def test_the_schema_of_ray_jobs_is_strict() -> None:
    wrong = ray_job(with_ray())
    wrong["spec"]["rayClusterSpec"]["workerGroup"] = []
    with pytest.raises(Wrong, match="workerGroup"):
        validate(wrong)


def test_a_job_runs_one_pod_once() -> None:
    spec = job(options(ttl_s=5, grace_s=7, deadline_s=60))["spec"]
    assert (spec["backoffLimit"], spec["completions"], spec["parallelism"]) == (0, 1, 1)
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    ]
    assert (spec["ttlSecondsAfterFinished"], spec["activeDeadlineSeconds"]) == (5, 60)
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] == 7
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"}
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert "suspend" not in spec


def test_a_demand_narrows_the_pod() -> None:
    spec = job(options(), memory="1Gi", gpus=0, node_selector={"zone": "a"})["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "1Gi"}
    assert spec["nodeSelector"] == {"pool": "gpu", "zone": "a"}


def test_what_is_placed_is_placed() -> None:
    spec = job(options(pod=PLACED))["spec"]["template"]["spec"]
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert (spec["priorityClassName"], spec["runtimeClassName"]) == ("batch", "nvidia")
    assert spec["affinity"] == {"podAntiAffinity": {}}


def test_the_launchers_own_volumes_are_the_names_that_are_kept_free() -> None:
    volumes = job(options())["spec"]["template"]["spec"]["volumes"]
    assert {volume["name"] for volume in volumes} == set(OWN_VOLUMES)


@pytest.mark.parametrize("build", [job, ray_job])
def test_a_queue_starts_its_jobs(build: Any) -> None:
    queued = build(with_ray(queue="main", queues=("night",)), queue="night")
    assert queued["spec"]["suspend"] is True
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "night"
    for template in templates(queued):  # Kueue would take its pods for jobs of their own
        assert "kueue.x-k8s.io/queue-name" not in template["metadata"]["labels"]


def test_scratch_and_cache_outlive_the_pod_where_there_is_a_claim() -> None:
    def data(given: LauncherOptions) -> Any:
        return next(volume for volume in job(given)["spec"]["template"]["spec"]["volumes"] if volume["name"] == "data")

    assert data(options()) == {"name": "data", "emptyDir": {"sizeLimit": "20Gi"}}
    assert data(options(scratch_claim="c")) == {"name": "data", "persistentVolumeClaim": {"claimName": "c"}}
    mounts = job(options())["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    kept = {mount["mountPath"]: mount["subPath"] for mount in mounts if mount["name"] == "data"}
    assert kept == {f"{DATA}/scratch": "scratch", f"{DATA}/cache": "cache"}


@pytest.mark.parametrize("thing", [job(options(**FULL)), ray_job(with_ray(**FULL))])
def test_the_claim_and_the_token_are_in_the_secret_only(thing: dict[str, Any]) -> None:
    written = json.dumps(thing)
    assert "the claim" not in written
    assert "the token" not in written
    thing["metadata"]["uid"] = "u"
    secret = build_secret(attempt(), thing, thing["metadata"]["labels"])
    validate(secret)
    assert json.loads(secret["stringData"]["job.json"])["claim"] == "the claim"
    (owner,) = secret["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == (thing["kind"], "u")


@pytest.mark.parametrize("thing", [job(options(**FULL)), ray_job(with_ray(**FULL))])
def test_every_pod_gets_the_environment_and_the_files_that_are_set(thing: dict[str, Any]) -> None:
    pods = list(templates(thing))
    assert len(pods) == (1 if thing["kind"] == "Job" else 2)  # head and workers
    for pod in pods:
        (container,) = pod["spec"]["containers"]
        assert {"name": "AWS_REGION", "value": "eu"} in container["env"]
        assert container["envFrom"] == [{"secretRef": {"name": "store"}}]
        assert {"name": "certificates", "configMap": {"name": "ca"}} in pod["spec"]["volumes"]
        assert {"name": "certificates", "mountPath": "/etc/ca", "readOnly": True} in container["volumeMounts"]
        assert pod["metadata"]["annotations"] == {"note": "b"}
        assert pod["metadata"]["labels"]["team"] == "a"
        assert pod["spec"]["serviceAccountName"] == "jobs"
        assert pod["spec"]["automountServiceAccountToken"] is False


def test_a_ray_job_has_the_workers_of_its_plan() -> None:
    spec = ray_job(with_ray(), ray_workers=3, gpus=0, cpu="1")["spec"]
    assert (spec["backoffLimit"], spec["shutdownAfterJobFinishes"]) == (0, True)
    assert spec["submissionMode"] == "HTTPMode"
    assert spec["entrypoint"] == "python -m anneal.kit.jobs.run"
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    (group,) = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 3)
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "16Gi"}
    assert group["rayStartParams"] == {"num-cpus": "1"}
    (wide,) = ray_job(with_ray(), ray_cpus=4)["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert wide["rayStartParams"] == {"num-cpus": "4"}  # one Ray worker fits, and one only
    head = cluster["headGroupSpec"]
    assert head["rayStartParams"] == {"num-cpus": "0"}
    assert head["template"]["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "8Gi"}
    secrets = [[v for v in t["spec"]["volumes"] if "secret" in v] for t in templates(ray_job(with_ray()))]
    assert [len(found) for found in secrets] == [1, 0]  # the workers are told by the head


def test_the_names_the_launcher_looks_for_cannot_be_replaced() -> None:
    made = job(options(labels={"anneal.dev/owner": "other", "team": "a"}))
    assert made["metadata"]["labels"]["anneal.dev/owner"] == "release-training"
    assert made["metadata"]["labels"]["team"] == "a"
    assert key_of(made) == ("train-0123456789ab", 1)
    assert key_of({"metadata": {"name": "other"}}) is None


@given(
    st.from_regex(r"projects/[a-z][a-z0-9-]{0,60}/operations/[a-z-]{1,30}-[0-9a-f]{12}", fullmatch=True),
    st.integers(1, 99_999),
)
def test_names_fit_and_tell_attempts_apart(operation: str, number: int) -> None:
    name = object_name(operation, number)
    assert len(name) <= 47
    assert name == object_name(operation, number)
    assert name not in {object_name(operation, number + 1), object_name(f"{operation}0", number)}
    assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name)


def test_a_name_says_its_kind() -> None:
    assert object_name(OPERATION, 2).startswith("anneal-train-")
    assert object_name(OPERATION, 2).endswith("-2")
