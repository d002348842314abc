"""NetworkPolicies: nobody connects to anybody but those who do so in the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from anneal.kit.jobs.kubernetes.names import OWNER, labels_of
from anneal.kit.jobs.launcher import Attempt
from deploy.local.chart_schema import LAUNCHERS, SERVICES
from tests.architecture.repository import PACKAGE
from tests.chart.rendering import (
    SITUATIONS,
    Object,
    Pod,
    objects,
    of_kind,
    of_situation,
    overlay,
    pods,
    services,
    situation,
)

_BY_POD = re.compile(r"""(?:runtime\.channel|channels\.get|\bchannel_to)\(\s*"(\w+)\"""")
_BY_JOB = re.compile(r"""ctx\.(?:aio_)?(?:channel|address)\(\s*"(\w+)\"""")
DISTRIBUTED = [name for name in SITUATIONS if name.startswith("distributed")]
GRPC, HTTP, METRICS = 50051, 8080, 9090
Edge = tuple[str, str, int]


def opened_channels() -> set[tuple[str, str]]:
    """Who opens a channel to whom, by the sources; `<service> jobs` are the pods of its jobs."""
    found: set[tuple[str, str]] = set()
    for service in SERVICES:
        for file in sorted((PACKAGE / service).rglob("*.py")):
            source = file.read_text(encoding="utf-8")
            found |= {(service, callee) for callee in _BY_POD.findall(source)}
            found |= {(f"{service} jobs", callee) for callee in _BY_JOB.findall(source)}
    return found


def calls_of_the_code() -> set[Edge]:
    """Every connection over gRPC: also that of each job with the service that started it, at `launcher.host`."""
    channels = opened_channels() | {(f"{service} jobs", service) for service in LAUNCHERS}
    return {(caller, callee, GRPC) for caller, callee in channels}


BESIDE_THE_CODE = {
    # A teacher, judge or encoder may be a deployment of the system itself.
    ("synthesis jobs", "gateway", HTTP),
    ("curation jobs", "gateway", HTTP),
    *(("test", service, GRPC) for service in ("registry", "ingestion", "serving")),
    ("test", "gateway", HTTP),
}


def test_the_code_calls_something() -> None:
    calls = calls_of_the_code()
    assert ("gateway", "serving", GRPC) in calls
    assert ("training jobs", "serving", GRPC) in calls


@pytest.mark.parametrize("name", DISTRIBUTED)
def test_the_edges_are_those_of_the_code_seen_from_both_ends(name: str) -> None:
    things = of_situation(name)
    wanted = calls_of_the_code() | BESIDE_THE_CODE
    assert set(edges(things, "ingress")) == wanted
    assert set(edges(things, "egress")) == wanted


@pytest.mark.parametrize("name", DISTRIBUTED)
def test_callers_have_the_addresses_of_whom_they_call_and_no_others(name: str) -> None:
    for pod in services(of_situation(name)):
        known = {address.partition("/")[0] for address in json.loads(pod.env["ANNEAL_ADDRESSES"] or "")}
        callers = {pod.component, f"{pod.component} jobs"}
        itself = {pod.component} & set(LAUNCHERS)  # its jobs may call it by its name, too
        assert known == {callee for caller, callee in opened_channels() if caller in callers} | itself


@pytest.mark.parametrize("name", [name for name in SITUATIONS if name != "standalone-throwaway"])
def test_every_pod_is_in_a_policy_of_both_directions(name: str) -> None:
    things = of_situation(name)
    for pod in pods(things):
        found = [one for one in of_kind(things, "NetworkPolicy") if _selects(one["spec"]["podSelector"], pod)]
        assert len(found) == 2  # the one that denies, and its own
        assert all(one["spec"]["policyTypes"] == ["Ingress", "Egress"] for one in found)
        assert any("ingress" not in one["spec"] and "egress" not in one["spec"] for one in found)


def test_policies_know_the_pods_of_jobs_by_the_labels_that_the_launcher_gives() -> None:
    attempt = Attempt(operation="projects/p/operations/train-1", attempt=1, config={"claim": "c"})
    things = of_situation("distributed-gpu")
    for service in LAUNCHERS:
        labels = labels_of(attempt, f"rel-anneal-{service}", {})
        found = [one for one in of_kind(things, "NetworkPolicy") if _matches(one["spec"]["podSelector"], labels)]
        assert [one["metadata"]["name"] for one in found] == [f"rel-anneal-{service}-jobs"]


@pytest.mark.parametrize("name", DISTRIBUTED)
def test_only_who_has_a_secret_or_a_bucket_gets_out_to_it(name: str) -> None:
    things = of_situation(name)
    store_port = 9000 if name == "distributed-cpu" else 443
    for pod in services(things):
        ports = {port for rule in _own_policy(things, pod)["spec"]["egress"] for port in _outside(rule)}
        assert (5432 in ports) == ("ANNEAL_DATABASE_URL" in pod.env)
        assert (6443 in ports) == pod.spec["automountServiceAccountToken"]
        assert (store_port in ports) == ("ANNEAL_STORE__URL" in pod.env)


def test_metrics_are_for_prometheus_only() -> None:
    for policy in of_kind(of_situation("distributed-gpu"), "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            if any(port.get("port") == METRICS for port in rule.get("ports", [])):
                labels = {"kubernetes.io/metadata.name": "monitoring"}
                assert rule["from"] == [{"namespaceSelector": {"matchLabels": labels}}]


def test_no_peers_let_nobody_in() -> None:
    nobody: dict[str, Any] = {key: [] for key in ("prometheus", "gatewayClients", "grpcClients", "kuberayOperator")}
    things = objects(overlay(situation("distributed-gpu"), {"networkPolicy": nobody}))
    peers = [
        peer
        for policy in of_kind(things, "NetworkPolicy")
        for rule in policy["spec"].get("ingress") or []
        for peer in rule["from"]
    ]
    assert peers
    assert all(set(peer) == {"podSelector"} for peer in peers)


def test_heads_and_workers_of_ray_speak_with_each_other_and_the_operator_with_heads() -> None:
    policy = next(
        one
        for one in of_kind(of_situation("distributed-gpu"), "NetworkPolicy")
        if one["metadata"]["name"] == "rel-anneal-training-jobs"
    )["spec"]
    own = {"podSelector": {"matchLabels": {OWNER: "rel-anneal-training"}}}
    assert {"from": [own]} in policy["ingress"]
    assert {"to": [own]} in policy["egress"]
    (operator,) = [rule for rule in policy["ingress"] if {"protocol": "TCP", "port": 8265} in rule.get("ports", [])]
    assert operator["from"][0]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}


def edges(things: Any, direction: str) -> Iterator[Edge]:
    """Who may connect to whom inside the release, as the policies of one end say."""
    for policy in of_kind(things, "NetworkPolicy"):
        here = _who(policy["spec"]["podSelector"])
        for rule in policy["spec"].get(direction) or []:
            for peer in rule.get("from", rule.get("to", [])):
                there = _who(peer["podSelector"]) if set(peer) == {"podSelector"} else None
                if there is None or here is None or "ports" not in rule:
                    continue
                caller, callee = (there, here) if direction == "ingress" else (here, there)
                yield from ((caller, callee, port["port"]) for port in rule["ports"])


def _who(selector: Mapping[str, Any]) -> str | None:
    labels = selector["matchLabels"]
    if OWNER in labels:
        return f"{labels[OWNER].removeprefix('rel-anneal-').removeprefix('rel-an-')} jobs"
    found: str | None = labels.get("app.kubernetes.io/component")
    return found


def _own_policy(things: Any, pod: Pod) -> Object:
    found = [one for one in of_kind(things, "NetworkPolicy") if _selects(one["spec"]["podSelector"], pod)]
    return next(one for one in found if "egress" in one["spec"])


def _outside(rule: Mapping[str, Any]) -> set[int]:
    """Ports of a rule that leads out of the release."""
    inside = any(set(peer) == {"podSelector"} for peer in rule.get("to", []))
    return set() if inside else {port["port"] for port in rule["ports"]}


def _selects(selector: Mapping[str, Any], pod: Pod) -> bool:
    return _matches(selector, pod.metadata["labels"])


def _matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    wanted: Mapping[str, str] = selector["matchLabels"]
    return wanted.items() <= labels.items()
