"""An attempt as a KubeRay RayJob: a head that runs the job's process, and a group of workers that train.

Fields and limits: KubeRay 1.7 `ray.io/v1`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anneal.kit.jobs.failures import NotAccepted, TooSlow
from anneal.kit.jobs.kubernetes.ends import Thing, condition, ended_pod, has_ended, pending_pod, phase, silent_pod
from anneal.kit.jobs.kubernetes.names import QUEUE, annotations_of, labels_of, metadata, object_name
from anneal.kit.jobs.kubernetes.narrowing import narrow, queue_of
from anneal.kit.jobs.kubernetes.pod import COMMAND, pod_template
from anneal.kit.jobs.kubernetes.resources import RAY_JOBS
from anneal.kit.jobs.launcher import Attempt, Ended
from anneal.kit.jobs.pending import Pending, PendingReason
from anneal.kit.options import LauncherOptions, PodOptions

NODE_TYPE = "ray.io/node-type"
_OVER = ("Complete", "Failed", "ValidationFailed")
_BEFORE = ("", "Initializing", "Waiting")


class RayJobForm:
    """How attempts are written as RayJobs, and read again."""

    resource = RAY_JOBS

    def __init__(self, options: LauncherOptions, data_dir: Path) -> None:
        self._options = options
        self._data_dir = data_dir

    def build(self, attempt: Attempt) -> dict[str, Any]:
        """The RayJob of an attempt: as many workers as its plan says, each with what the demand leaves."""
        options = self._options
        labels = labels_of(attempt, options.owner, options.labels)
        queue = queue_of(options, attempt.demand)
        workers = attempt.demand.ray_workers
        secret = object_name(attempt.operation, attempt.attempt)
        # The head trains nothing: what it has is for the job's process and Ray's own.
        head = self._group("head", options.ray.head, labels, secret)
        worker = self._group("worker", narrow(options.ray.worker, attempt.demand), labels)
        spec: dict[str, Any] = {
            "entrypoint": shlex.join(COMMAND),
            # The operator submits it itself: no further pod, and none with an account's token.
            "submissionMode": "HTTPMode",
            "backoffLimit": 0,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": options.ray.linger_s,
            "rayClusterSpec": {
                "rayVersion": options.ray.version,
                "authOptions": {"mode": "token"},
                "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": head},
                "workerGroupSpecs": [
                    {
                        "groupName": "workers",
                        "replicas": workers,
                        "minReplicas": workers,
                        "maxReplicas": workers,
                        "rayStartParams": {"num-cpus": str(attempt.demand.ray_cpus)},
                        "template": worker,
                    }
                ],
            },
        }
        if options.deadline_s:
            spec["activeDeadlineSeconds"] = options.deadline_s
        if queue:
            spec["suspend"] = True  # Kueue starts it
        return {
            "apiVersion": "ray.io/v1",
            "kind": "RayJob",
            "metadata": {
                "name": secret,
                "labels": {**labels, QUEUE: queue} if queue else labels,
                "annotations": annotations_of(attempt),
            },
            "spec": spec,
        }

    def _group(self, name: str, pod: PodOptions, labels: Mapping[str, str], secret: str = "") -> dict[str, Any]:
        container: dict[str, Any] = {"name": f"ray-{name}", "image": self._options.ray.image or self._options.image}
        return pod_template(
            self._options, pod, data_dir=self._data_dir, labels=labels, secret=secret, container=container
        )

    def read(self, job: Thing, pods: Sequence[Thing], gone: Sequence[Thing]) -> Ended | Pending | None:
        """Where an attempt is: ended, waiting, or None while it runs."""
        status = job.get("status", {})
        where = status.get("jobDeploymentStatus", "")
        if where in _OVER:
            return _end(status, [*pods, *filter(has_ended, gone)])
        if where in ("Suspending", "Suspended") or (job["spec"].get("suspend") and where in _BEFORE):
            queue = metadata(job, "labels").get(QUEUE)
            return Pending(PendingReason.QUEUE, f"{queue} has not admitted it" if queue else "its RayJob is suspended")
        # KubeRay makes another head for one that is lost, on which the job's process is not.
        lost = [pod for pod in _heads(pods) if phase(pod) == "Failed"]
        lost += [pod for pod in _heads(gone) if phase(pod) not in ("", "Pending")]
        if lost:
            return ended_pod(lost) or Ended(text="its Ray head was deleted", charged=False)
        if where in _BEFORE:
            waits = [pending for pod in pods if (pending := pending_pod(pod))]
            return waits[0] if waits else _pending_cluster(status, pods)
        return None

    def silent(self, pods: Sequence[Thing]) -> Ended | None:
        """Why nothing is heard of an attempt; only its head speaks."""
        return silent_pod(_heads(pods))

    def is_over(self, job: Thing) -> bool:
        """Whether it has ended: KubeRay removes its pods then, and leaves the RayJob."""
        return job.get("status", {}).get("jobDeploymentStatus") in _OVER


def _heads(pods: Sequence[Thing]) -> Sequence[Thing]:
    return [pod for pod in pods if metadata(pod, "labels").get(NODE_TYPE) == "head"]


def _pending_cluster(status: Thing, pods: Sequence[Thing]) -> Pending:
    """What a Ray cluster waits for, none of whose pods is pending: KubeRay's own words."""
    failure = condition({"status": status.get("rayClusterStatus") or {}}, "ReplicaFailure")
    words = (failure or {}).get("message") or status.get("message") or status.get("reason") or ""
    if not words and pods:
        words = "its pods run, and KubeRay has not started the job on them"
    return Pending(PendingReason.RAY_CLUSTER, words)


def _end(status: Mapping[str, Any], pods: Sequence[Thing]) -> Ended:
    if status["jobDeploymentStatus"] == "ValidationFailed":
        words = status.get("message") or "it gives no reason"
        refusal = NotAccepted(f"KubeRay refused the RayJob of the job: {words}")
        return Ended(text=f"KubeRay refused its RayJob: {words}", refusal=refusal)
    if status["jobDeploymentStatus"] == "Complete" and status.get("jobStatus") == "SUCCEEDED":
        return Ended(text="the job's process exited with 0 without a result")
    if status.get("reason") == "DeadlineExceeded":
        return Ended(text="it ran longer than an attempt may (ANNEAL_LAUNCHER__DEADLINE_S)", failure=TooSlow)
    told = ended_pod(_heads(pods)) or ended_pod(pods)
    words = status.get("message") or status.get("reason") or "KubeRay gives no reason"
    return told or Ended(text=f"its RayJob failed: {words}")
