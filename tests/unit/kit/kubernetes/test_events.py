"""The words of the cluster's events about an attempt that waits, and whose reason they are."""

from __future__ import annotations

from typing import Any

import pytest

from anneal.kit.jobs.kubernetes.causes import Cause, cause_of
from anneal.kit.jobs.kubernetes.events import explained, subjects
from anneal.kit.jobs.pending import Pending, PendingReason

QUOTA = 'pods "a-1" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=4, limited: pods=4'
STANDARD = 'pods "a-1" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false'
LIMIT = 'pods "a-1" is forbidden: maximum cpu usage per Container is 1, but limit is 2'
DENIED = 'admission webhook "policy.example.com" denied the request: no'
POLICY = "jobs.batch \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"
AWAY = 'Internal error occurred: failed calling webhook "policy.example.com": failed to call webhook: Post "https://p"'
RIGHTS = 'jobs.batch is forbidden: User "a" cannot create resource "jobs" in API group "batch" in the namespace "n"'


def event(reason: str, message: str, *, kind: str = "Pod", at: int = 1, type: str = "Warning") -> dict[str, Any]:
    time = f"2026-01-01T00:00:{at:02}Z"
    about = {"kind": kind, "name": "a"}
    return {
        "metadata": {"creationTimestamp": time},
        "involvedObject": about,
        "reason": reason,
        "message": message,
        "type": type,
        "lastTimestamp": time,
    }


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (QUOTA, Cause.QUOTA),
        ("status unknown for quota: compute, resources: pods", Cause.QUOTA),
        ("failed quota: compute: must specify limits.cpu for: job", Cause.DENIED),
        (STANDARD, Cause.DENIED),
        (LIMIT, Cause.DENIED),
        (DENIED, Cause.DENIED),
        (POLICY, Cause.DENIED),
        (AWAY, Cause.WEBHOOK_AWAY),
        (RIGHTS, None),
        ("", None),
    ],
)
def test_the_message_of_the_api_names_its_cause(message: str, cause: Cause | None) -> None:
    assert cause_of(message) is cause


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (QUOTA, PendingReason.QUOTA),
        (STANDARD, PendingReason.ADMISSION),
        (LIMIT, PendingReason.ADMISSION),
        (AWAY, PendingReason.ADMISSION),
        ("pods is forbidden: serviceaccount not found", PendingReason.POD),
    ],
)
def test_a_pod_that_cannot_be_created_waits_for_what_refuses_it(words: str, reason: PendingReason) -> None:
    failed = event("FailedCreate", f"Error creating: {words}", kind="Job")
    assert explained(Pending(PendingReason.POD), [failed]) == Pending(reason, f"FailedCreate: Error creating: {words}")


def test_what_came_before_the_pod_got_its_node_is_over() -> None:
    starting = Pending(PendingReason.CONTAINER)
    scheduled, unscheduled = event("Scheduled", "", type="Normal"), event("FailedScheduling", "0/1 nodes")
    assert explained(starting, [scheduled, unscheduled]).detail == "its pod has a node and starts"
    mount = event("FailedMount", 'secret "a" not found')
    assert explained(starting, [mount, scheduled, unscheduled]) == Pending(
        PendingReason.VOLUME, 'FailedMount: secret "a" not found'
    )
    pulling = event("Pulling", 'Pulling image "a"', type="Normal")
    assert explained(starting, [pulling, scheduled]) == Pending(PendingReason.IMAGE, 'Pulling image "a"')
    assert explained(starting, [event("FailedCreate", QUOTA, kind="Job")]).reason is PendingReason.CONTAINER


def test_the_cause_of_a_failed_pull_is_behind_its_back_off() -> None:
    failed = event("Failed", 'Failed to pull image "a": not found')
    backing_off = Pending(PendingReason.IMAGE, 'ImagePullBackOff: Back-off pulling image "a"')
    assert (
        explained(backing_off, [failed]).detail == f'{backing_off.detail}; Failed: Failed to pull image "a": not found'
    )
    complete = Pending(PendingReason.IMAGE, 'ImagePullBackOff: Back-off pulling image "a": ErrImagePull: not found')
    assert explained(complete, [failed]) == complete


def test_a_wait_without_words_says_what_is_known() -> None:
    assert explained(Pending(PendingReason.POD), []).text == "waiting for its pod: the cluster has not created it"
    node = Pending(PendingReason.NODE, "0/1 nodes are available")
    assert explained(node, [event("FailedScheduling", "an older text")]) == node


def test_events_are_asked_for_by_the_names_of_the_job_its_pods_and_their_claims() -> None:
    claims = [{"name": "data", "persistentVolumeClaim": {"claimName": "scratch"}}, {"name": "tmp", "emptyDir": {}}]
    job = {"metadata": {"name": "a"}, "status": {"rayClusterName": "a-xyz"}}
    pods = [{"metadata": {"name": name}, "spec": {"volumes": claims}} for name in ("a-1", "a-2")]
    assert subjects(job, pods) == ["a", "a-xyz", "a-1", "scratch", "a-2"]
