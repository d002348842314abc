"""Every pod: Pod Security "restricted", tokens, probes, time to stop, places to write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy

import pytest

from tests.chart.rendering import (
    SITUATIONS,
    Pod,
    named,
    objects,
    of_kind,
    of_situation,
    overlay,
    pods,
    services,
    situation,
)
from tests.fixtures.kubernetes_rules import restricted

LAUNCHERS = {"ingestion", "synthesis", "curation", "training", "evaluation"}
every_situation = pytest.mark.parametrize("name", SITUATIONS)


@every_situation
def test_every_pod_meets_pod_security_restricted_and_has_a_root_that_cannot_be_written(name: str) -> None:
    found = list(pods(of_situation(name)))
    assert found
    for pod in found:
        # Its token is another test's: services that start jobs have one.
        spec = {**deepcopy(dict(pod.spec)), "automountServiceAccountToken": False}
        spec["volumes"] += [{"name": claim, "persistentVolumeClaim": {}} for claim in _claimed(pod)]
        for container in spec["containers"]:
            container["resources"]["limits"].setdefault("cpu", "unlimited")  # only pods of jobs limit processors
        restricted(spec)


@every_situation
def test_only_services_that_start_jobs_have_a_token(name: str) -> None:
    things = of_situation(name)
    with_token = {pod.component for pod in pods(things) if pod.spec["automountServiceAccountToken"]}
    assert with_token == (LAUNCHERS if name.startswith("distributed") else set())
    assert all(thing["automountServiceAccountToken"] is False for thing in of_kind(things, "ServiceAccount"))


@every_situation
def test_every_image_has_a_tag_or_a_digest(name: str) -> None:
    for pod in pods(of_situation(name)):
        _, at, digest = pod.container["image"].partition("@")
        _, colon, tag = pod.container["image"].rpartition(":")
        assert (at and digest.startswith("sha256:")) or (colon and tag != "latest"), pod.container["image"]


def test_images_of_training_and_serving_have_the_flavor_that_their_gpus_need() -> None:
    images = {pod.component: pod.container["image"] for pod in pods(of_situation("distributed-cpu"))}
    assert images["serving"] == "anneal/serving:0.1.0-cpu"
    assert images["training"] == "anneal/training:0.1.0-cpu"
    images = {pod.component: pod.container["image"] for pod in pods(of_situation("distributed-gpu"))}
    assert images["serving"] == "registry.example.com/anneal/serving:0.1.0-cuda"
    assert images["training"] == "registry.example.com/anneal/training:0.1.0-cuda"
    assert images["registry"] == images["migrate"] == "registry.example.com/anneal/registry:0.1.0"


@every_situation
def test_a_pod_has_longer_to_stop_than_its_calls_to_end(name: str) -> None:
    for pod in services(of_situation(name)):
        sleep = pod.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        drains = [float(pod.env[name] or 0) for name in pod.env if name.endswith("__DRAIN_S")]
        assert drains
        assert pod.spec["terminationGracePeriodSeconds"] > sleep + max(drains)


@every_situation
def test_probes_ask_the_page_that_needs_no_credentials(name: str) -> None:
    for pod in services(of_situation(name)):
        asked = {probe: pod.container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
        assert {probe: get["path"] for probe, get in asked.items()} == {
            "startup": "/livez",
            "liveness": "/livez",
            "readiness": "/readyz",
        }
        ports = {port["name"]: port["containerPort"] for port in pod.container["ports"]}
        assert all(get["port"] == "metrics" for get in asked.values())
        assert str(ports["metrics"]) == pod.env["ANNEAL_METRICS__PORT"]


@every_situation
def test_ports_of_services_are_those_of_their_pods(name: str) -> None:
    things = of_situation(name)
    for service in of_kind(things, "Service"):
        pod = next(pod for pod in services(things) if _selects(service["spec"]["selector"], pod))
        known = {port["name"]: port["containerPort"] for port in pod.container["ports"]}
        assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == known


@every_situation
def test_services_of_grpc_alone_are_headless(name: str) -> None:
    for service in of_kind(of_situation(name), "Service"):
        speaks_http = "http" in {port["name"] for port in service["spec"]["ports"]}
        assert (service["spec"].get("clusterIP") == "None") is not speaks_http


@every_situation
def test_every_pod_can_write_where_its_processes_do(name: str) -> None:
    for pod in pods(of_situation(name)):
        mounts = {mount["mountPath"] for mount in pod.container["volumeMounts"]}
        assert {"/data", "/tmp"} <= mounts
        assert pod.env["ANNEAL_DATA_DIR"] == "/data"
        for variable in ("HOME", "HF_HOME", "XDG_CACHE_HOME"):
            assert (pod.env[variable] or "").startswith("/tmp")
        volumes = {volume["name"] for volume in pod.spec["volumes"]} | _claimed(pod)
        assert {mount["name"] for mount in pod.container["volumeMounts"]} == volumes


def test_servers_of_a_base_model_get_its_gpus_and_run_beside_their_taint() -> None:
    pod = _pod("distributed-gpu", "rel-anneal-serving-llama-70b")
    assert pod.container["resources"] == {
        "requests": {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": "4"},
        "limits": {"memory": "16Gi", "nvidia.com/gpu": "4"},
    }
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod.spec["tolerations"]
    assert pod.spec["runtimeClassName"] == "nvidia"
    assert pod.owner["spec"]["progressDeadlineSeconds"] > 5400
    assert pod.env["ANNEAL_SERVING__TENSOR_PARALLEL"] == "4"
    assert pod.env["ANNEAL_SERVING__KV_CACHE_BYTES"] == "0"
    assert json.loads(pod.env["ANNEAL_SERVING__PRELOAD"] or "") == ["projects/acme/models/llama-70b"]


def test_one_base_model_can_differ_from_the_others() -> None:
    others = _pod("distributed-gpu", "rel-anneal-serving-llama-8b")
    assert others.env["ANNEAL_SERVING__DTYPE"] == "bfloat16"
    assert "ANNEAL_SERVING__MAX_SEQUENCES" not in others.env
    assert _pod("distributed-gpu", "rel-anneal-serving-llama-70b").env["ANNEAL_SERVING__MAX_SEQUENCES"] == "128"


def test_training_knows_the_room_for_adapters_that_servers_have() -> None:
    training = _pod("distributed-gpu", "rel-anneal-training").env
    for model, rank in (("llama-8b", "64"), ("llama-70b", "32")):
        assert _pod("distributed-gpu", f"rel-anneal-serving-{model}").env["ANNEAL_ENGINE__MAX_RANK"] == rank
        assert json.loads(training["ANNEAL_ENGINE__MAX_RANKS"] or "")[f"projects/acme/models/{model}"] == int(rank)
    assert training["ANNEAL_ENGINE__MAX_RANK"] == "64", "the first model's servers answer for those that have none"
    assert training["ANNEAL_ENGINE__DEVICE"] == "cuda"
    assert _pod("distributed-cpu", "rel-anneal-training").env["ANNEAL_ENGINE__DEVICE"] == "cpu"


def test_zero_false_and_empty_of_a_service_win_over_the_defaults() -> None:
    values = overlay(
        situation("distributed-cpu"),
        {
            "defaults": {"pdb": {"enabled": True}, "priorityClassName": "high", "replicaCount": 3},
            "curation": {"pdb": {"enabled": False}, "priorityClassName": "", "replicaCount": 0},
            "evaluation": {"replicaCount": 1},
        },
    )
    things = objects(values)
    curation = named(things, "Deployment", "rel-anneal-curation")["spec"]
    assert curation["replicas"] == 0
    assert "priorityClassName" not in curation["template"]["spec"]
    budgets = {thing["metadata"]["name"] for thing in of_kind(things, "PodDisruptionBudget")}
    assert "rel-anneal-curation" not in budgets
    assert "rel-anneal-evaluation" in budgets


def test_a_spread_without_a_selector_spreads_the_pods_of_its_own_service() -> None:
    pod = _pod("distributed-gpu", "rel-anneal-gateway")
    (spread,) = pod.spec["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"


def test_pods_with_scaling_leave_the_number_to_it() -> None:
    scaled = {
        thing["spec"]["scaleTargetRef"]["name"]
        for thing in of_kind(of_situation("distributed-gpu"), "ScaledObject", "HorizontalPodAutoscaler")
    }
    assert scaled == {"rel-anneal-serving-llama-8b"}
    for thing in of_kind(of_situation("distributed-gpu"), "Deployment"):
        assert ("replicas" not in thing["spec"]) == (thing["metadata"]["name"] in scaled)


def _pod(situation_name: str, name: str) -> Pod:
    return next(pod for pod in pods(of_situation(situation_name)) if pod.owner["metadata"]["name"] == name)


def _selects(selector: Mapping[str, str], pod: Pod) -> bool:
    return selector.items() <= dict(pod.metadata["labels"]).items()


def _claimed(pod: Pod) -> set[str]:
    return {claim["metadata"]["name"] for claim in pod.owner["spec"].get("volumeClaimTemplates", [])}
