"""Events of the cluster about the objects of an attempt that waits: the words of controllers, scheduler and kubelet.

Events carry no labels, so they are listed by the name of the object that they are about, and only while an attempt
waits for it; a watch would bring those of the whole namespace.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from anneal.kit import logs
from anneal.kit.jobs.kubernetes.causes import Cause, cause_of
from anneal.kit.jobs.kubernetes.client import ApiError, Cluster
from anneal.kit.jobs.kubernetes.ends import Thing
from anneal.kit.jobs.kubernetes.resources import EVENTS
from anneal.kit.jobs.pending import Pending, PendingReason

ASK_EVERY_S = 2.0
WANTED_S = 10.0
"""An object that nobody has asked about for so long is not asked about any more."""
_UNMOUNTED = ("FailedMount", "FailedAttachVolume", "ProvisioningFailed", "FailedBinding", "VolumeResizeFailed")
_PROGRESSED = ("SuccessfulCreate", "Scheduled", "Pulled", "CreatedHeadPod", "CreatedWorkerPod")
_PULL = "Failed to pull image "
_SUBJECTS = {PendingReason.POD: ("Job",), PendingReason.RAY_CLUSTER: ("RayJob", "RayCluster")}
"""The kinds of objects whose events may say why an attempt waits; for every other reason its pods."""
_HINTS = {
    PendingReason.POD: "the cluster has not created it",
    PendingReason.NODE: "the scheduler has not placed its pod",
    PendingReason.CONTAINER: "its pod has a node and starts",
    PendingReason.RAY_CLUSTER: "KubeRay has not created its pods",
}
"""The detail of a reason where the cluster has no words."""


class Events:
    """The latest events about some objects. Every method may be called from every thread."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float]) -> None:
        """Make it; nothing is sent before `sweep`.

        Args:
            cluster: where they are listed.
            clock: seconds that only grow.
        """
        self._cluster, self._clock = cluster, clock
        self._lock = threading.Lock()
        self._wanted: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._events: dict[str, list[dict[str, Any]]] = {}
        self._is_refused = False
        self._log = logs.logger("kubernetes")

    def about(self, names: Iterable[str]) -> list[Thing]:
        """What is known of these objects, newest first. A later call knows more: it has them asked about."""
        names = list(names)
        now = self._clock()
        with self._lock:
            self._wanted |= dict.fromkeys(names, now)
            events = [event for name in names for event in self._events.get(name, ())]
        return sorted(events, key=_time, reverse=True)

    def sweep(self) -> None:
        """Ask about every object that somebody wants to know of."""
        now = self._clock()
        with self._lock:
            self._wanted = {name: at for name, at in self._wanted.items() if now - at < WANTED_S}
            for known in (self._events, self._asked):
                for name in known.keys() - self._wanted.keys():
                    del known[name]
            due = [name for name in self._wanted if now >= self._asked.get(name, -math.inf) + ASK_EVERY_S]
            self._asked |= dict.fromkeys(due, now)
        for name in due:
            try:
                events, _ = self._cluster.list(EVENTS, fields=f"involvedObject.name={name}")
            except ApiError as error:
                if not self._is_refused:
                    self._log.warning("why jobs wait cannot be read from events", error=str(error))
                self._is_refused = True
                return
            self._is_refused = False
            with self._lock:
                self._events[name] = events


def subjects(thing: Thing, pods: Sequence[Thing]) -> list[str]:
    """The objects whose events may say what an attempt waits for."""
    names = [thing["metadata"]["name"], thing.get("status", {}).get("rayClusterName", "")]
    for pod in pods:
        names.append(pod["metadata"]["name"])
        claims = (volume.get("persistentVolumeClaim") for volume in pod.get("spec", {}).get("volumes") or [])
        names += [claim["claimName"] for claim in claims if claim]
    return list(dict.fromkeys(name for name in names if name))


def explained(pending: Pending, events: Sequence[Thing]) -> Pending:
    """What an attempt waits for, in the words of the newest event that has any.

    Args:
        pending: what its objects say.
        events: about them, newest first.
    """
    if pending.reason is PendingReason.VOLUME:
        claims = (event for event in events if event["involvedObject"].get("kind") == "PersistentVolumeClaim")
        return _with(pending, next((event for event in claims if event.get("reason") in _UNMOUNTED), None))
    if pending.reason is PendingReason.IMAGE and "ErrImagePull: " not in pending.detail:
        # The kubelet of an earlier release does not repeat the cause while it backs off.
        return _with(pending, next((event for event in events if _PULL in event.get("message", "")), None))
    if not pending.detail:
        for event in events:
            if event["involvedObject"].get("kind") not in _SUBJECTS.get(pending.reason, ("Pod",)):
                continue
            if event.get("reason") in _PROGRESSED:
                break  # what came before it is over
            if (better := _read(pending.reason, event)) is not None:
                return better
        return Pending(pending.reason, _HINTS.get(pending.reason, ""))
    return Pending(_reason(pending.detail, pending.reason), pending.detail)


def _with(pending: Pending, event: Thing | None) -> Pending:
    """A wait with the words of an event behind its own."""
    return pending if event is None else Pending(pending.reason, f"{pending.detail.rstrip('. ')}; {_words(event)}")


def _read(reason: PendingReason, event: Thing) -> Pending | None:
    """What an event says about a wait; None where it says nothing of it."""
    if event.get("reason") == "Pulling":
        return Pending(PendingReason.IMAGE, event.get("message", "")) if reason is PendingReason.CONTAINER else None
    if event.get("type") != "Warning":
        return None
    if event.get("reason") in _UNMOUNTED:
        return Pending(PendingReason.VOLUME, _words(event))
    return Pending(_reason(event.get("message", ""), reason), _words(event))


def _reason(words: str, otherwise: PendingReason) -> PendingReason:
    cause = cause_of(words)
    if cause is None:
        return otherwise
    return PendingReason.QUOTA if cause is Cause.QUOTA else PendingReason.ADMISSION


def _words(event: Thing) -> str:
    message = " ".join(str(event.get("message", "")).split())
    return f"{event.get('reason', '')}: {message}".strip(": ")


def _time(event: Thing) -> str:
    """When an event happened last; the API writes times so that their texts can be compared."""
    series = (event.get("series") or {}).get("lastObservedTime")
    times = (series, event.get("lastTimestamp"), event.get("eventTime"), event["metadata"].get("creationTimestamp"))
    return str(next((time for time in times if time), ""))
