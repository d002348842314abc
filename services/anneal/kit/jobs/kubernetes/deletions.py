"""Deletions that are done again until what they are for is gone, or going."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from anneal.kit import logs
from anneal.kit.jobs.kubernetes.client import ApiError, Cluster
from anneal.kit.jobs.kubernetes.resources import Resource
from anneal.kit.jobs.kubernetes.watch import Mirror

DELETE_AGAIN_S = 5.0


class Deletions:
    """What is to be deleted. Every method may be called from every thread."""

    def __init__(self, cluster: Cluster, mirrors: Mapping[Resource, Mirror], clock: Callable[[], float]) -> None:
        """Make it.

        Args:
            cluster: where it is deleted.
            mirrors: what is there, by its kind.
            clock: seconds that only grow.
        """
        self._cluster, self._mirrors, self._clock = cluster, mirrors, clock
        self._lock = threading.Lock()
        self._asked: dict[tuple[Resource, str], float | None] = {}
        """When each was last asked for; None where it never was."""
        self._log = logs.logger("kubernetes")

    def add(self, resource: Resource, name: str) -> None:
        """Have an object deleted at the next sweep."""
        with self._lock:
            self._asked.setdefault((resource, name), None)

    def sweep(self) -> None:
        """Ask for every deletion that is due. One that fails or is lost is asked for again at a later sweep."""
        now = self._clock()
        with self._lock:
            asked = dict(self._asked)
        for (resource, name), since in asked.items():
            if since is None:
                self._delete(resource, name, now)
            elif now - since < DELETE_AGAIN_S:
                continue
            elif self._is_going(resource, name):
                with self._lock:
                    self._asked.pop((resource, name), None)
            else:
                self._delete(resource, name, now)

    def _is_going(self, resource: Resource, name: str) -> bool:
        thing = self._mirrors[resource].get(name)
        return thing is None or "deletionTimestamp" in thing["metadata"]

    def _delete(self, resource: Resource, name: str, now: float) -> None:
        try:
            self._cluster.delete(resource, name)
        except ApiError as error:
            self._log.warning("a job could not be deleted; trying again", name=name, error=str(error))
            return
        with self._lock:
            self._asked[resource, name] = now
