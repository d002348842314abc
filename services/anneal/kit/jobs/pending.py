"""What a job waits for before its process works: a closed set of reasons, and the sentence that users read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from anneal.kit.errors import NotYet

SHOW_AFTER_S = 2.0
"""A shorter wait is not written: a pod that starts at once would cause an event for each step."""
REWRITE_AFTER_S = 10.0
"""A new text of the same reason is written this often: a scheduler rewords its message with every node that changes."""


class PendingReason(StrEnum):
    """What a job waits for; the same names as `anneal.v1.PendingReason` and the metrics' label `reason`."""

    TURN = "turn"
    API = "api"
    QUEUE = "queue"
    POD = "pod"
    NODE = "node"
    IMAGE = "image"
    VOLUME = "volume"
    QUOTA = "quota"
    ADMISSION = "admission"
    CONTAINER = "container"
    RAY_CLUSTER = "ray_cluster"
    PROCESS = "process"

    @property
    def is_timed(self) -> bool:
        """Whether `launcher.pending_s` limits the wait."""
        return self not in _NOT_TIMED


_NOT_TIMED = (PendingReason.TURN, PendingReason.API, PendingReason.QUEUE, PendingReason.PROCESS)
_WHAT = {
    PendingReason.TURN: "its turn",
    PendingReason.API: "the cluster's API",
    PendingReason.QUEUE: "its queue",
    PendingReason.POD: "its pod",
    PendingReason.NODE: "a node",
    PendingReason.IMAGE: "an image",
    PendingReason.VOLUME: "a volume",
    PendingReason.QUOTA: "room in a quota",
    PendingReason.ADMISSION: "admission",
    PendingReason.CONTAINER: "its container",
    PendingReason.RAY_CLUSTER: "its Ray cluster",
    PendingReason.PROCESS: "its process",
}
_REMEDIES = {
    PendingReason.POD: "look at the Job's events with kubectl",
    PendingReason.NODE: "add a node, or let jobs ask for less (launcher.pod, on Ray launcher.ray.head and .worker)",
    PendingReason.IMAGE: "let the nodes pull the image of jobs (launcher.image, launcher.image_pull_secrets)",
    PendingReason.VOLUME: "see that the claim is bound and that its storage class exists (launcher.scratch_claim)",
    PendingReason.QUOTA: "raise the namespace's ResourceQuota, or end what uses it",
    PendingReason.ADMISSION: "let the webhook, policy or limit admit the pods of jobs, or repair it",
    PendingReason.CONTAINER: "look at the pod's events with kubectl",
    PendingReason.RAY_CLUSTER: "see that KubeRay's operator runs, and what it logs of this RayJob",
}


class PendingTooLong(NotYet):
    """The process of the job did not start within `launcher.pending_s`, the time in a queue not counted."""

    reason = "JOB_PENDING_TOO_LONG"


@dataclass(frozen=True, slots=True)
class Pending:
    """What an attempt waits for.

    Attributes:
        reason: one of the closed set.
        detail: the cluster's own words where it has any.
    """

    reason: PendingReason
    detail: str = ""

    @property
    def text(self) -> str:
        """One line for users, such as `waiting for a node: 0/1 nodes are available: 1 Insufficient cpu`."""
        detail = " ".join(self.detail.split()).rstrip(".")
        return f"waiting for {_WHAT[self.reason]}: {detail}"[:1900] if detail else f"waiting for {_WHAT[self.reason]}"

    def too_long(self, limit_s: float) -> PendingTooLong:
        """The refusal of a job that waited for this until the limit."""
        remedy = _REMEDIES.get(self.reason, "")
        return PendingTooLong(
            f"it did not start within {limit_s:g} s: {self.text}" + (f"; {remedy}" if remedy else ""),
            pending_reason=self.reason.value,
            pending_s=f"{limit_s:g}",
        )


class PendingClock:
    """Since when each attempt waits.

    Reasons that `launcher.pending_s` limits share one clock, so that a pod that got its node and then waits for its
    image does not start again; a queue in between does.
    """

    def __init__(self) -> None:
        self._since: dict[tuple[str, int], tuple[bool, float]] = {}
        self._written: dict[tuple[str, int], float] = {}

    def since(self, key: tuple[str, int], pending: Pending, now: float, *, stored: tuple[str, float]) -> float:
        """When the wait began.

        Args:
            key: operation and attempt.
            pending: what it waits for.
            now: seconds since the epoch.
            stored: reason and begin that the database has, which outlives this process; an empty reason for none.
        """
        known = self._since.get(key)
        if known is None and stored[0] in set(PendingReason):
            known = (PendingReason(stored[0]).is_timed, stored[1])
        if known is None or known[0] is not pending.reason.is_timed:
            known = (pending.reason.is_timed, now)
        self._since[key] = known
        return known[1]

    def is_shown(self, key: tuple[str, int], now: float) -> bool:
        """Whether the wait is long enough to be shown."""
        return now - self._since[key][1] >= SHOW_AFTER_S

    def is_due(self, key: tuple[str, int], pending: Pending, now: float, *, stored: tuple[str, str]) -> bool:
        """Whether the wait is to be written: it is long enough, and the database has another reason or text."""
        if stored == (pending.reason.value, pending.text) or not self.is_shown(key, now):
            return False
        if stored[0] == pending.reason.value and now - self._written.get(key, 0.0) < REWRITE_AFTER_S:
            return False
        self._written[key] = now
        return True

    def forget(self, key: tuple[str, int]) -> None:
        """The attempt does not wait any more."""
        self._since.pop(key, None)
        self._written.pop(key, None)

    def keep(self, names: Collection[str]) -> None:
        """Forget the attempts of every other operation."""
        for key in [key for key in self._since if key[0] not in names]:
            self.forget(key)
