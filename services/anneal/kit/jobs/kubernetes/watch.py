"""A mirror of some of the cluster's objects in memory: listed once, then kept up with by a watch that is resumed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from anneal.kit import logs
from anneal.kit.jobs.kubernetes.client import Absent, ApiError, Changes, Cluster, Expired
from anneal.kit.jobs.kubernetes.names import key_of
from anneal.kit.jobs.kubernetes.resources import Resource

PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
Key = tuple[str, int]


class Mirror:
    """The objects of one kind that carry this service's labels, by the attempt they belong to.

    Its thread lists, then watches from the version it has seen last: after a connection that broke nothing is missed,
    and after an expired version (410) it lists again.
    """

    def __init__(self, cluster: Cluster, resource: Resource, selector: str) -> None:
        self.resource = resource
        self._cluster, self._selector = cluster, selector
        self._lock = threading.Lock()
        self._objects: dict[str, dict[str, Any]] = {}
        self._names: dict[Key, set[str]] = {}
        self._gone: dict[Key, dict[str, dict[str, Any]]] = {}
        self._version: str | None = None
        self._changes: Changes | None = None
        self._stopping = threading.Event()
        self._synced = threading.Event()
        self._tried = threading.Event()
        self._answers = False
        self._error = ""
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"watch-{resource.plural}")
        self._log = logs.logger("kubernetes")

    # -- reading -------------------------------------------------------------------------------------------------

    @property
    def is_synced(self) -> bool:
        """Whether everything was listed once."""
        return self._synced.is_set()

    @property
    def answers(self) -> bool:
        """Whether the API answered when it was asked last."""
        return self._answers

    @property
    def error(self) -> str:
        """What the API answered last where it did not do what it was asked; empty while it does."""
        return self._error

    def wait_tried(self, timeout_s: float) -> None:
        """Wait until the first list came, or failed."""
        self._tried.wait(timeout_s)

    def of(self, key: Key) -> list[dict[str, Any]]:
        """The objects of an attempt."""
        with self._lock:
            return [self._objects[name] for name in sorted(self._names.get(key, ()))]

    def gone(self, key: Key) -> list[dict[str, Any]]:
        """The objects of an attempt that were deleted, as they were last."""
        with self._lock:
            return list(self._gone.get(key, {}).values())

    def forget(self, living: Collection[str]) -> None:
        """Forget what was deleted, except for these operations (the last part of their names)."""
        with self._lock:
            self._gone = {key: things for key, things in self._gone.items() if key[0] in living}

    def all(self) -> list[dict[str, Any]]:
        """Every object."""
        with self._lock:
            return list(self._objects.values())

    def get(self, name: str) -> dict[str, Any] | None:
        """An object by its name."""
        with self._lock:
            return self._objects.get(name)

    # -- keeping up ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start to keep up."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop, and wait for the thread."""
        self._stopping.set()
        deadline = time.monotonic() + timeout_s
        while self._thread.is_alive() and time.monotonic() < deadline:
            if self._changes is not None:
                self._changes.stop()  # again: one that is just being opened does not hear it
            self._thread.join(0.2)

    def add(self, thing: Mapping[str, Any]) -> None:
        """Know an object that was just created before the watch tells of it."""
        with self._lock:
            if thing["metadata"]["name"] not in self._objects:
                self._put(dict(thing))

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                if self._version is None:
                    self._list()
                self._follow()
                failures = 0
            except Expired:
                self._version = None
                failures += 1
            except ApiError as error:
                self._failed(error)
                failures += 1
            except Exception:  # noqa: BLE001 - a mirror that stood still would be believed
                self._log.exception("an object of the cluster could not be read; listing again")
                self._version = None
                failures += 1
            if time.monotonic() - began > LONGEST_PAUSE_S:
                failures = min(failures, 1)  # it was well for a while
            # Also a server that ends each watch at once is not asked without a pause.
            pause_s = min(PAUSE_S * 2 ** (failures - 1), LONGEST_PAUSE_S) if failures else 0.0
            self._stopping.wait(max(pause_s, PAUSE_S - (time.monotonic() - began)))

    def _failed(self, error: ApiError) -> None:
        if self._stopping.is_set():
            return
        if self._answers or not self.is_synced:
            told = "install it, or switch it off" if isinstance(error, Absent) else "trying again"
            self._log.warning(
                "the cluster's API does not answer", resource=str(self.resource), error=str(error), now=told
            )
        self._answers = False
        self._error = str(error)
        self._tried.set()

    def _list(self) -> None:
        found, version = self._cluster.list(self.resource, self._selector)
        with self._lock:
            listed = {thing["metadata"]["name"] for thing in found}
            for name in self._objects.keys() - listed:
                self._remove(self._objects[name])
            for thing in found:
                self._put(thing)
        self._version = version
        self._heard()
        self._synced.set()
        self._tried.set()

    def _heard(self) -> None:
        self._answers = True
        self._error = ""

    def _follow(self) -> None:
        assert self._version is not None
        self._changes = self._cluster.watch(self.resource, self._selector, self._version, heard=self._heard)
        if self._stopping.is_set():
            return
        for kind, thing in self._changes:
            with self._lock:
                if kind == "DELETED":
                    self._remove(thing)
                elif kind != "BOOKMARK":
                    self._put(thing)
            self._version = thing["metadata"]["resourceVersion"]
            if self._stopping.is_set():
                return

    def _put(self, thing: dict[str, Any]) -> None:
        name = thing["metadata"]["name"]
        self._objects[name] = thing
        if (key := key_of(thing)) is not None:
            self._names.setdefault(key, set()).add(name)

    def _remove(self, thing: dict[str, Any]) -> None:
        name = thing["metadata"]["name"]
        self._objects.pop(name, None)
        if (key := key_of(thing)) is not None:
            names = self._names.get(key, set())
            names.discard(name)
            if not names:
                self._names.pop(key, None)
            self._gone.setdefault(key, {})[name] = thing


class Worker:
    """Calls something again and again on a thread of its own until it is stopped."""

    def __init__(self, name: str, work: Callable[[], None], every_s: float) -> None:
        self._work, self._every_s = work, every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=name)
        self._log = logs.logger("kubernetes")

    def start(self) -> None:
        """Start it."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop it, and wait for the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            try:
                self._work()
            except Exception:  # noqa: BLE001 - what this round could not do the next one may
                self._log.exception("a round failed; trying again", worker=self._thread.name)
