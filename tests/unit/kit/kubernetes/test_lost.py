"""Why an attempt was lost: every kind of end of every kind of object, with its specifics and never with empty words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from anneal.kit.jobs.kubernetes.ends import broken_pod, silent_pod
from anneal.kit.jobs.kubernetes.job import JobForm
from anneal.kit.jobs.kubernetes.rayjob import RayJobForm
from anneal.kit.jobs.launcher import Ended
from tests.unit.kit.kubernetes.helpers import DATA, attempt, options, with_ray

JOBS = JobForm(options(), DATA)
RAY = RayJobForm(with_ray(), DATA)
EMPTY_WORDS = re.compile(r"[:;,(]\s*([:;,)]|$)|None|\{|unknown")
"""A sentence with a hole in it, or with a value that was not there."""

Case = tuple[str, Ended, list[str]]

CONTAINER_ENDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "out_of_memory": ({"exitCode": 137, "reason": "OOMKilled"}, ["OOMKilled", "exit code 137", "raise launcher."]),
    "error": (
        {"exitCode": 1, "reason": "Error", "message": "Traceback\nValueError: no such file: a.parquet\n"},
        ["exited with 1", "(Error)", "ValueError: no such file: a.parquet"],
    ),
    "error_without_log": ({"exitCode": 2, "reason": "Error"}, ["exited with 2", "(Error)", "left no log"]),
    "signal": ({"exitCode": 139, "reason": "Error"}, ["killed by SIGSEGV", "left no log"]),
    "start_error": (
        {"exitCode": 128, "reason": "StartError", "message": 'exec: "python": executable file not found in $PATH'},
        ["exited with 128", "(StartError)", "executable file not found"],
    ),
    "service_away": ({"exitCode": 75, "reason": "Error"}, ["its server did not answer it"]),
}
DISRUPTIONS = {
    "PreemptionByScheduler": "preempted",
    "DeletionByTaintManager": "tainted or gone",
    "EvictionByEvictionAPI": "drained",
    "DeletionByPodGC": "its node is gone",
    "TerminationByKubelet": "evicted by its node",
    "AReasonOfALaterRelease": "AReasonOfALaterRelease",
}
USAGE = 'Usage of EmptyDir volume "tmp" exceeds the limit "10Gi".'


def condition(kind: str, reason: str = "", status: str = "True", message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def pod(template: dict[str, Any], role: str, **status: Any) -> dict[str, Any]:
    name = template["spec"]["containers"][0]["name"]
    states = [{"name": name, "state": status.pop("state", {}), "ready": status.pop("ready", False)}]
    return {
        "metadata": {"name": "p", "labels": {"ray.io/node-type": role}},
        "spec": {**template["spec"], "nodeName": "n"},
        "status": {"phase": "Failed", "containerStatuses": states, **status},
    }


def pods(template: dict[str, Any], role: str) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    """A pod that ended in each way, and the words that its end needs."""
    for name, (terminated, words) in CONTAINER_ENDS.items():
        limit = [template["spec"]["containers"][0]["resources"]["limits"]["memory"]] if name == "out_of_memory" else []
        yield name, pod(template, role, state={"terminated": terminated}), words + limit
    yield "evicted", pod(template, role, reason="Evicted", message=USAGE), ["(Evicted)", USAGE]
    yield "evicted_without_words", pod(template, role, reason="Evicted"), ["(Evicted)", "gives no reason"]
    for reason, word in DISRUPTIONS.items():
        yield reason, pod(template, role, conditions=[condition("DisruptionTarget", reason)]), [word]


def ended(state: object) -> Ended:
    assert isinstance(state, Ended), state
    return state


def job_ends() -> Iterator[Case]:
    built = JOBS.build(attempt())
    template = built["spec"]["template"]

    def job(*conditions: dict[str, str]) -> dict[str, Any]:
        return {**built, "status": {"conditions": list(conditions)}}

    failed = job(condition("Failed", "BackoffLimitExceeded", message="Job has reached the specified backoff limit"))
    for name, one, words in pods(template, ""):
        yield f"job/{name}", ended(JOBS.read(failed, [one], [])), words
        yield f"job/{name}/gone", ended(JOBS.read(failed, [], [one])), words
    yield "job/gone", ended(JOBS.read(failed, [], [])), ["is gone", "reached the specified backoff limit"]
    yield "job/gone/reason", ended(JOBS.read(job(condition("Failed", "Odd")), [], [])), ["is gone", "Odd"]
    yield "job/gone/nothing", ended(JOBS.read(job(condition("Failed")), [], [])), ["is gone", "gives no reason"]
    disrupted = job(condition("Failed", "PodFailurePolicy"))
    yield "job/disrupted", ended(JOBS.read(disrupted, [], [])), ["disrupted by the cluster"]
    slow = job(condition("Failed", "DeadlineExceeded"))
    yield "job/deadline", ended(JOBS.read(slow, [], [])), ["longer than an attempt may", "DEADLINE_S"]
    yield "job/complete", ended(JOBS.read(job(condition("Complete")), [], [])), ["exited with 0 without a result"]


def ray_ends() -> Iterator[Case]:
    built = RAY.build(attempt(ray_workers=2))
    cluster = built["spec"]["rayClusterSpec"]
    head, worker = cluster["headGroupSpec"]["template"], cluster["workerGroupSpecs"][0]["template"]

    def ray(where: str, **status: str) -> dict[str, Any]:
        return {**built, "status": {"jobDeploymentStatus": where, **status}}

    failed = ray("Failed", reason="AppFailed", message="Job entrypoint command failed with exit code 1")
    for name, one, words in pods(head, "head"):
        yield f"ray/head/{name}", ended(RAY.read(failed, [one], [])), words
        if name != "service_away":
            yield f"ray/running/{name}", ended(RAY.read(ray("Running"), [one], [])), words
    for name, one, words in pods(worker, "worker"):
        yield f"ray/worker/{name}", ended(RAY.read(failed, [one], [])), words
    yield "ray/message", ended(RAY.read(failed, [], [])), ["its RayJob failed", "failed with exit code 1"]
    yield "ray/reason", ended(RAY.read(ray("Failed", reason="AppFailed"), [], [])), ["AppFailed"]
    yield "ray/nothing", ended(RAY.read(ray("Failed"), [], [])), ["its RayJob failed", "gives no reason"]
    invalid = ray("ValidationFailed", message="spec.entrypoint is wrong")
    yield "ray/invalid", ended(RAY.read(invalid, [], [])), ["KubeRay refused", "spec.entrypoint is wrong"]
    yield "ray/invalid/nothing", ended(RAY.read(ray("ValidationFailed"), [], [])), ["refused", "gives no reason"]
    slow = ray("Failed", reason="DeadlineExceeded")
    yield "ray/deadline", ended(RAY.read(slow, [], [])), ["longer than an attempt may", "DEADLINE_S"]
    done = ray("Complete", jobStatus="SUCCEEDED")
    yield "ray/complete", ended(RAY.read(done, [], [])), ["exited with 0 without a result"]
    deleted = pod(head, "head") | {"status": {"phase": "Running"}}
    yield "ray/head_deleted", ended(RAY.read(ray("Running"), [], [deleted])), ["its Ray head was deleted"]


def other_ends() -> Iterator[Case]:
    """What is read of pods beside their object: when a lease ran out, and when a process says itself that it failed."""
    template = JOBS.build(attempt())["spec"]["template"]
    lost = pod(template, "", ready=True, conditions=[condition("Ready", "NodeNotReady", "False")])
    lost["status"]["phase"] = "Running"
    yield "silent/node", ended(silent_pod([lost])), ["the node n stopped answering"]
    for reason, words in DISRUPTIONS.items():
        one = pod(template, "", conditions=[condition("DisruptionTarget", reason)])
        yield f"silent/{reason}", ended(silent_pod([one])), [words]
        yield f"broken/{reason}", ended(broken_pod([one])), [words]
    full = pod(template, "", state={"terminated": CONTAINER_ENDS["out_of_memory"][0]})
    yield "broken/out_of_memory", ended(broken_pod([full])), ["OOMKilled", "4Gi", "launcher.pod.memory"]


CASES = [*job_ends(), *ray_ends(), *other_ends()]


@pytest.mark.parametrize(("end", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_lost_attempt_says_why(end: Ended, words: list[str]) -> None:
    for word in words:
        assert word in end.text
    assert not EMPTY_WORDS.search(end.text), end.text
    assert "\n" not in end.text
    if end.refusal is not None:
        assert all(word in str(end.refusal) for word in words if word != "refused")


@pytest.mark.parametrize(
    ("role", "setting"), [("head", "launcher.ray.head.memory"), ("worker", "launcher.ray.worker.memory")]
)
def test_memory_names_the_setting_to_raise(role: str, setting: str) -> None:
    end = next(end for name, end, _ in CASES if name == f"ray/{role}/out_of_memory")
    assert setting in end.text
    assert f"ANNEAL_{setting.upper().replace('.', '__')}" in end.text
