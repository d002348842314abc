"""An attempt as a `batch/v1` Job: one pod, once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anneal.kit.jobs.failures import TooSlow
from anneal.kit.jobs.kubernetes.ends import Thing, condition, ended_pod, has_ended, pending_pod, silent_pod
from anneal.kit.jobs.kubernetes.names import QUEUE, annotations_of, labels_of, object_name
from anneal.kit.jobs.kubernetes.narrowing import narrow, queue_of
from anneal.kit.jobs.kubernetes.pod import COMMAND, CONTAINER, pod_template
from anneal.kit.jobs.kubernetes.resources import JOBS
from anneal.kit.jobs.launcher import Attempt, Ended
from anneal.kit.jobs.pending import Pending, PendingReason
from anneal.kit.options import LauncherOptions

POD_FAILURE_POLICY = {
    "rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
}
"""Nothing is tried twice here: a claim is good for one process, and the next attempt is the server's to start.

The one rule makes the Job itself say whether the cluster ended it (`PodFailurePolicy`) or it failed on its own
(`BackoffLimitExceeded`), also when its pod is gone.
"""


class JobForm:
    """How attempts are written as Jobs, and read again."""

    resource = JOBS

    def __init__(self, options: LauncherOptions, data_dir: Path) -> None:
        self._options = options
        self._data_dir = data_dir

    def build(self, attempt: Attempt) -> dict[str, Any]:
        """The Job of an attempt."""
        options = self._options
        labels = labels_of(attempt, options.owner, options.labels)
        queue = queue_of(options, attempt.demand)
        spec: dict[str, Any] = {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": POD_FAILURE_POLICY,
            "ttlSecondsAfterFinished": options.ttl_s,
            "template": pod_template(
                options,
                narrow(options.pod, attempt.demand),
                data_dir=self._data_dir,
                labels=labels,
                secret=object_name(attempt.operation, attempt.attempt),
                container={"name": CONTAINER, "image": options.image, "command": list(COMMAND)},
            ),
        }
        if options.deadline_s:
            spec["activeDeadlineSeconds"] = options.deadline_s
        if queue:
            spec["suspend"] = True  # Kueue starts it
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": object_name(attempt.operation, attempt.attempt),
                "labels": {**labels, QUEUE: queue} if queue else labels,
                "annotations": annotations_of(attempt),
            },
            "spec": spec,
        }

    def read(self, job: Thing, pods: Sequence[Thing], gone: Sequence[Thing]) -> Ended | Pending | None:
        """Where an attempt is: ended, waiting, or None while it runs."""
        if condition(job, "Complete"):
            return Ended(text="the job's process exited with 0 without a result")
        failed = condition(job, "Failed")
        if failed is not None:
            # A pod may be gone before anybody here has looked: what it said last still tells how it ended.
            return _failure(failed, [*pods, *filter(has_ended, gone)])
        if job["spec"].get("suspend"):
            queue = job["metadata"].get("labels", {}).get(QUEUE)
            return Pending(PendingReason.QUEUE, f"{queue} has not admitted it" if queue else "its Job is suspended")
        return pending_pod(pods[0]) if pods else Pending(PendingReason.POD)

    def silent(self, pods: Sequence[Thing]) -> Ended | None:
        """Why nothing is heard of an attempt."""
        return silent_pod(pods)

    def is_over(self, job: Thing) -> bool:
        """Whether it has ended: its `ttlSecondsAfterFinished` removes it then."""
        return bool(condition(job, "Complete") or condition(job, "Failed"))


def _failure(failed: Thing, pods: Sequence[Thing]) -> Ended:
    reason = failed.get("reason", "")
    if reason == "DeadlineExceeded":
        return Ended(text="it ran longer than an attempt may (ANNEAL_LAUNCHER__DEADLINE_S)", failure=TooSlow)
    told = ended_pod(pods)
    if told is not None:
        return told
    if reason == "PodFailurePolicy":
        return Ended(text="its pod was disrupted by the cluster and is gone", charged=False)
    return Ended(text=f"its pod failed and is gone: {failed.get('message') or reason or 'its Job gives no reason'}")
