"""What objects and pods say about an attempt, in words, and whose fault it was."""

from __future__ import annotations

from typing import Any

import pytest

from anneal.kit.jobs.kubernetes.ends import broken_pod, silent_pod
from anneal.kit.jobs.kubernetes.job import JobForm
from anneal.kit.jobs.kubernetes.rayjob import RayJobForm
from anneal.kit.jobs.launcher import Ended
from anneal.kit.jobs.pending import Pending, PendingReason
from tests.unit.kit.kubernetes.helpers import DATA, attempt, options, with_ray

JOBS = JobForm(options(), DATA)
RAY = RayJobForm(with_ray(), DATA)


def condition(kind: str, reason: str = "", status: str = "True", message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def pod(phase: str, *conditions: dict[str, str], role: str = "", ready: bool = False, **state: Any) -> dict[str, Any]:
    spec = JOBS.build(attempt())["spec"]["template"]["spec"]
    return {
        "metadata": {"name": "p", "labels": {"ray.io/node-type": role}},
        "spec": {**spec, "nodeName": "n"},
        "status": {
            "phase": phase,
            "conditions": list(conditions),
            "containerStatuses": [{"name": "job", "state": state, "ready": ready}],
        },
    }


def job(*conditions: dict[str, str], **spec: Any) -> dict[str, Any]:
    made = JOBS.build(attempt())
    return {**made, "spec": {**made["spec"], **spec}, "status": {"conditions": list(conditions)}}


UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims"
FAILED = condition("Failed", "BackoffLimitExceeded", message="limit")
OOM: dict[str, Any] = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}


def read(thing: dict[str, Any], *pods: dict[str, Any]) -> Ended:
    ended = JOBS.read(thing, pods, [])
    assert isinstance(ended, Ended), ended
    return ended


def test_out_of_memory_is_told_with_the_limit_and_what_to_do() -> None:
    ended = read(job(FAILED), pod("Failed", **OOM))
    assert ended.text.startswith("its container job was killed (OOMKilled, exit code 137) at its memory limit of 4Gi")
    assert ended.refusal is not None
    assert ended.refusal.reason == "JOB_OUT_OF_MEMORY"
    assert ended.refusal.facts == {"memory_limit": "4Gi", "pod": "p", "container": "job"}
    assert "ANNEAL_LAUNCHER__POD__MEMORY" in str(ended.refusal)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("PreemptionByScheduler", "preempted"),
        ("DeletionByTaintManager", "tainted or gone"),
        ("EvictionByEvictionAPI", "drained"),
        ("DeletionByPodGC", "node is gone"),
        ("TerminationByKubelet", "evicted by its node"),
        ("SomethingNew", "SomethingNew"),
    ],
)
def test_a_disruption_is_charged_to_nobody(reason: str, said: str) -> None:
    # Its container was killed, too, and would look as if it had run out of memory.
    disrupted = pod("Failed", condition("DisruptionTarget", reason), **OOM)
    ended = read(job(condition("Failed", "PodFailurePolicy")), disrupted)
    assert said in ended.text
    assert not ended.charged
    assert ended.refusal is None


def test_a_disruption_is_known_without_its_pod() -> None:
    assert not read(job(condition("Failed", "PodFailurePolicy"))).charged
    lost = read(job(FAILED))
    assert lost.charged
    assert "is gone" in lost.text


def test_a_pod_that_took_more_than_it_may_is_charged() -> None:
    evicted = pod("Failed")
    evicted["status"] |= {"reason": "Evicted", "message": 'Usage of EmptyDir volume "tmp" exceeds the limit "10Gi".'}
    ended = read(job(FAILED), evicted)
    assert ended.charged
    assert "exceeds the limit" in ended.text


@pytest.mark.parametrize(("code", "said"), [(1, "exited with 1"), (137, "killed by SIGKILL"), (255, "exited with 255")])
def test_an_exit_is_told_with_its_last_line(code: int, said: str) -> None:
    ended = read(job(FAILED), pod("Failed", terminated={"exitCode": code, "message": "first\nMemoryError: no\n"}))
    assert said in ended.text
    assert "its last line was: MemoryError: no" in ended.text
    assert ended.charged


def test_a_process_whose_server_was_away_charges_nobody() -> None:
    ended = read(job(FAILED), pod("Failed", terminated={"exitCode": 75}))
    assert ended == Ended(text="its server did not answer it for too long", charged=False)


def test_an_end_without_words_is_told() -> None:
    assert "left no log" in read(job(FAILED), pod("Failed", terminated={"exitCode": 3})).text
    assert "without a result" in read(job(condition("Complete"))).text
    assert "DEADLINE_S" in read(job(condition("Failed", "DeadlineExceeded"))).text


@pytest.mark.parametrize(
    ("pods", "text"),
    [
        ([], "waiting for its pod"),
        ([pod("Pending")], "waiting for its container"),
        (
            [pod("Pending", condition("PodScheduled", "Unschedulable", "False", "0/3 nodes are available."))],
            "waiting for a node: 0/3 nodes are available",
        ),
        (
            [pod("Pending", condition("PodScheduled", "Unschedulable", "False", UNBOUND))],
            f"waiting for a volume: {UNBOUND}",
        ),
        (
            [
                pod(
                    "Pending",
                    condition("PodScheduled", "Unschedulable", "False", 'persistentvolumeclaim "a" not found'),
                )
            ],
            'waiting for a volume: persistentvolumeclaim "a" not found',
        ),
        (
            [pod("Pending", waiting={"reason": "ImagePullBackOff", "message": "no such image"})],
            "waiting for an image: ImagePullBackOff: no such image",
        ),
        (
            [pod("Pending", waiting={"reason": "CreateContainerConfigError", "message": "no secret"})],
            "waiting for its container: CreateContainerConfigError: no secret",
        ),
        ([pod("Pending", waiting={"reason": "ContainerCreating"})], "waiting for its container"),
    ],
)
def test_what_a_job_waits_for_is_shown(pods: list[dict[str, Any]], text: str) -> None:
    pending = JOBS.read(job(), pods, [])
    assert isinstance(pending, Pending)
    assert pending.text == text
    assert pending.reason.is_timed


def test_a_queue_is_no_fault() -> None:
    queued = job(suspend=True)
    queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "main"
    assert JOBS.read(queued, [], []) == Pending(PendingReason.QUEUE, "main has not admitted it")
    assert not PendingReason.QUEUE.is_timed


def test_a_running_job_runs() -> None:
    assert JOBS.read(job(), [pod("Running", running={})], []) is None
    assert not JOBS.is_over(job())
    assert JOBS.is_over(job(FAILED))


def test_a_silent_job_is_explained_by_its_node() -> None:
    ready, unready = condition("Ready"), condition("Ready", "NodeNotReady", "False")
    assert silent_pod([pod("Running", ready, ready=True)]) is None
    lost = silent_pod([pod("Running", unready, ready=True)])
    assert lost == Ended(text="the node n stopped answering", charged=False)
    assert silent_pod([pod("Running", unready, ready=False)]) is None  # it says of itself that it is not ready
    going = silent_pod([pod("Running", condition("DisruptionTarget", "DeletionByTaintManager"))])
    assert going is not None
    assert not going.charged


# -- RayJobs -----------------------------------------------------------------------------------------------------


def ray(status: dict[str, Any], **spec: Any) -> dict[str, Any]:
    made = RAY.build(attempt(ray_workers=2))
    return {**made, "spec": {**made["spec"], **spec}, "status": status}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            {"jobDeploymentStatus": "ValidationFailed", "message": "a wrong field"},
            "KubeRay refused its RayJob: a wrong",
        ),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, "without a result"),
        ({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}, "DEADLINE_S"),
        (
            {"jobDeploymentStatus": "Failed", "reason": "AppFailed", "message": "it failed"},
            "its RayJob failed: it failed",
        ),
    ],
)
def test_the_end_of_a_ray_job_is_told(status: dict[str, str], said: str) -> None:
    ended = RAY.read(ray(status), [], [])
    assert isinstance(ended, Ended)
    assert said in ended.text
    assert ended.charged
    assert RAY.is_over(ray(status))


def test_a_ray_job_ends_with_its_head() -> None:
    running = ray({"jobDeploymentStatus": "Running"})
    assert RAY.read(running, [pod("Running", role="head"), pod("Running", role="worker")], []) is None
    assert RAY.read(running, [pod("Running", role="head"), pod("Failed", role="worker", **OOM)], []) is None
    ended = RAY.read(running, [pod("Failed", condition("DisruptionTarget", "PreemptionByScheduler"), role="head")], [])
    assert isinstance(ended, Ended)
    assert not ended.charged


def test_a_head_that_is_gone_ends_its_ray_job() -> None:
    running, now = ray({"jobDeploymentStatus": "Running"}), [pod("Pending", role="head"), pod("Running", role="worker")]
    drained = pod("Running", condition("DisruptionTarget", "EvictionByEvictionAPI"), role="head")
    for gone, said in ((drained, "drained"), (pod("Running", role="head"), "head was deleted")):
        ended = RAY.read(running, now, [gone])
        assert isinstance(ended, Ended)
        assert said in ended.text
        assert not ended.charged
    for harmless in (pod("Pending", role="head"), pod("Failed", role="worker")):  # it never ran, or Ray goes on
        assert RAY.read(running, now, [harmless]) is None


def test_what_a_process_fell_over_is_what_the_cluster_did() -> None:
    assert broken_pod([pod("Running", role="head"), pod("Running", role="worker")]) is None
    assert broken_pod([pod("Failed", terminated={"exitCode": 1})]) is None  # that it says itself
    preempted = pod("Running", condition("DisruptionTarget", "PreemptionByScheduler"), role="worker")
    interrupted = broken_pod([pod("Running", role="head"), preempted])
    assert interrupted is not None
    assert not interrupted.charged
    full = broken_pod([pod("Running", role="head"), pod("Failed", role="worker", **OOM)])
    assert full is not None
    assert full.refusal is not None


def test_a_workers_memory_is_told_when_its_ray_job_failed() -> None:
    failed = ray({"jobDeploymentStatus": "Failed", "reason": "AppFailed"})
    ended = RAY.read(
        failed, [pod("Failed", role="head", terminated={"exitCode": 0}), pod("Failed", role="worker", **OOM)], []
    )
    assert isinstance(ended, Ended)
    assert ended.refusal is not None
    assert ended.refusal.reason == "JOB_OUT_OF_MEMORY"


@pytest.mark.parametrize("status", ["", "Suspended", "Suspending"])
def test_a_suspended_ray_job_waits_in_its_queue(status: str) -> None:
    waiting = RAY.read(ray({"jobDeploymentStatus": status}, suspend=True), [], [])
    assert isinstance(waiting, Pending)
    assert waiting.reason is PendingReason.QUEUE


def test_a_ray_cluster_in_the_making_waits() -> None:
    waiting = RAY.read(ray({"jobDeploymentStatus": "Initializing"}), [pod("Running", role="head"), pod("Pending")], [])
    assert isinstance(waiting, Pending)
    assert waiting.text == "waiting for its container"
    assert RAY.read(ray({"jobDeploymentStatus": "Initializing"}), [], []) == Pending(PendingReason.RAY_CLUSTER)
    failed = {"type": "ReplicaFailure", "status": "True", "message": "failed to create head pod: exceeded quota: q"}
    status: dict[str, Any] = {"jobDeploymentStatus": "Initializing", "rayClusterStatus": {"conditions": [failed]}}
    assert RAY.read(ray(status), [], []) == Pending(PendingReason.RAY_CLUSTER, failed["message"])
