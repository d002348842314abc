"""What the pods of an attempt say about it: how it ended, what it waits for, why it is silent.

Statuses and reasons: Kubernetes documentation, "Pod Lifecycle" and "Disruptions" (the condition DisruptionTarget).
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anneal.kit.errors import NotYet
from anneal.kit.jobs.failures import Evicted
from anneal.kit.jobs.launcher import AWAY, AWAY_CODE, Ended
from anneal.kit.jobs.pending import Pending, PendingReason

Thing = Mapping[str, Any]
"""An object of the cluster, as its API gives it."""

_DISRUPTIONS = {
    "PreemptionByScheduler": "preempted by a pod of higher priority",
    "DeletionByTaintManager": "removed because its node is tainted or gone",
    "EvictionByEvictionAPI": "evicted, as when its node is drained",
    "DeletionByPodGC": "removed because its node is gone",
    "TerminationByKubelet": "evicted by its node, which ran short of something or is shutting down",
}
_IMAGE_FAULTS = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
)
_STARTING = ("ContainerCreating", "PodInitializing", "")
_WITHOUT_CLAIM = ("PersistentVolumeClaim", "persistentvolumeclaim")
"""How the scheduler's message names a claim that is not bound, not there or being deleted."""


_MEMORY_SETTINGS = {"ray-head": "ray.head", "ray-worker": "ray.worker"}


class OutOfMemory(NotYet):
    """The job needs more memory than its pod may have; the same again would end the same way."""

    reason = "JOB_OUT_OF_MEMORY"


def condition(thing: Thing, kind: str) -> Thing | None:
    """A condition that holds; None where it does not."""
    found = thing.get("status", {}).get("conditions") or []
    return next((one for one in found if one["type"] == kind and one["status"] == "True"), None)


def phase(pod: Thing) -> str:
    """Where a pod is: Pending, Running, Succeeded or Failed; empty where it does not say yet."""
    return str(pod.get("status", {}).get("phase", ""))


def has_ended(pod: Thing) -> bool:
    """Whether a pod says that it has ended, or that it is about to."""
    return phase(pod) in ("Succeeded", "Failed") or condition(pod, "DisruptionTarget") is not None


def ended_pod(pods: Sequence[Thing]) -> Ended | None:
    """How the pods of an attempt that failed say it did; None where none of them does.

    A disruption comes first: it ends the container, too, with a signal that looks like the container's own fault.
    """
    return next((ended for how in (_disrupted, _out_of_memory, _evicted, _exited) if (ended := how(pods))), None)


def broken_pod(pods: Sequence[Thing]) -> Ended | None:
    """What the cluster did to a pod that another one's process may have fallen over; None where it did nothing."""
    return _disrupted(pods) or _out_of_memory(pods)


def _disrupted(pods: Iterable[Thing]) -> Ended | None:
    """What the cluster did to a pod, or is about to; None where it does nothing."""
    for pod in pods:
        told = condition(pod, "DisruptionTarget")
        if told is not None:
            what = _DISRUPTIONS.get(told.get("reason", ""), f"disrupted ({told.get('reason', 'nothing says why')})")
            return Ended(text=f"its pod was {what}", charged=False)
    return None


def silent_pod(pods: Iterable[Thing]) -> Ended | None:
    """What keeps the pods of an attempt from being heard: a disruption, or a node that does not answer."""
    pods = list(pods)
    told = _disrupted(pods)
    if told is not None:
        return told
    for pod in pods:
        # Jobs have no readiness probe: a running container that is ready in a pod that is not is what is left to
        # see when the control plane has lost the node.
        is_ready = any(status.get("ready") for status in _containers(pod))
        if phase(pod) == "Running" and is_ready and condition(pod, "Ready") is None:
            node = pod.get("spec", {}).get("nodeName", "its node")
            return Ended(text=f"the node {node} stopped answering", charged=False)
    return None


def pending_pod(pod: Thing) -> Pending | None:
    """What a pod waits for; None when it runs or has ended."""
    if phase(pod) not in ("", "Pending"):
        return None
    conditions = pod.get("status", {}).get("conditions") or []
    placed = next((one for one in conditions if one["type"] == "PodScheduled"), None)
    if placed is not None and placed["status"] == "False":
        words = placed.get("message") or placed.get("reason") or ""
        if placed.get("reason") == "SchedulingGated":
            return Pending(PendingReason.QUEUE, words)
        has_no_claim = any(name in words for name in _WITHOUT_CLAIM)
        return Pending(PendingReason.VOLUME if has_no_claim else PendingReason.NODE, words)
    for status in _containers(pod):
        held = status.get("state", {}).get("waiting", {})
        reason = held.get("reason", "")
        if reason not in _STARTING:
            words = f"{reason}: {held.get('message', '')}"
            return Pending(PendingReason.IMAGE if reason in _IMAGE_FAULTS else PendingReason.CONTAINER, words)
    if placed is None and not pod.get("spec", {}).get("nodeName"):
        return Pending(PendingReason.NODE)
    return Pending(PendingReason.CONTAINER)


def _out_of_memory(pods: Sequence[Thing]) -> Ended | None:
    for pod in pods:
        for status in _containers(pod):
            if _terminated(status).get("reason") == "OOMKilled":
                return _no_memory(pod, status["name"])
    return None


def _no_memory(pod: Thing, container: str) -> Ended:
    specs = pod.get("spec", {}).get("containers") or []
    limits: Mapping[str, str] = next(
        (one.get("resources", {}).get("limits", {}) for one in specs if one["name"] == container), {}
    )
    limit = limits.get("memory", "")
    setting = _MEMORY_SETTINGS.get(container, "pod")
    variable = f"ANNEAL_LAUNCHER__{setting.upper().replace('.', '__')}__MEMORY"
    text = (
        f"its container {container} was killed (OOMKilled, exit code 137) at its memory limit of "
        f"{limit or 'an unknown size'}: raise launcher.{setting}.memory ({variable}), or ask for less at once, such as "
        "a smaller batch"
    )
    refusal = OutOfMemory(
        f"the job ran out of memory: {text}",
        memory_limit=limit,
        pod=pod["metadata"]["name"],
        container=container,
    )
    return Ended(text=text, refusal=refusal)


def _evicted(pods: Sequence[Thing]) -> Ended | None:
    """A pod that its node evicted without disruption: it wrote more than it may, which no other node changes."""
    for pod in pods:
        if pod.get("status", {}).get("reason") == "Evicted":
            words = pod["status"].get("message") or "its node gives no reason"
            return Ended(text=f"its pod was evicted (Evicted): {words}", failure=Evicted)
    return None


def _exited(pods: Sequence[Thing]) -> Ended | None:
    for pod in pods:
        for status in _containers(pod):
            ended = _terminated(status)
            if ended.get("exitCode") == AWAY_CODE:
                return Ended(text=AWAY, charged=False)
            if ended.get("exitCode"):
                reason = f" ({ended['reason']})" if ended.get("reason") else ""
                return Ended(text=f"the job's process {_how(ended['exitCode'])}{reason}; {_last_line(ended)}")
    return None


def _how(code: int) -> str:
    """An exit code in words; above 128 a signal ended the process."""
    try:
        return f"was killed by {signal.Signals(code - 128).name}" if code > 128 else f"exited with {code}"
    except ValueError:
        return f"exited with {code}"


def _last_line(ended: Thing) -> str:
    lines = str(ended.get("message", "")).strip().splitlines()
    return f"its last line was: {lines[-1][:300]}" if lines else "it left no log"


def _containers(pod: Thing) -> Sequence[Thing]:
    found: Sequence[Thing] = pod.get("status", {}).get("containerStatuses") or []
    return found


def _terminated(status: Thing) -> Thing:
    found: Thing = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated") or {}
    return found
