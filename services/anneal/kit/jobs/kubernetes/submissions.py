"""Attempts whose object the cluster does not take yet: a quota is used up, a webhook or the API does not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass

from anneal.kit.jobs.kubernetes.client import ApiError, QuotaExceeded, Unreachable, WebhookAway
from anneal.kit.jobs.kubernetes.names import operation_id
from anneal.kit.jobs.kubernetes.watch import Key
from anneal.kit.jobs.launcher import Attempt, Ended, LaunchFailed
from anneal.kit.jobs.pending import Pending, PendingReason

PAUSE_S = 2.0
LONGEST_PAUSE_S = 30.0


class TryLater(Exception):
    """The object of an attempt was not created, and the same may be created later.

    Attributes:
        pending: what it waits for.
    """

    def __init__(self, pending: Pending) -> None:
        super().__init__(pending.text)
        self.pending = pending


def pending_of(error: ApiError) -> Pending | None:
    """What an object waits for that was not created; None where waiting does not help."""
    if isinstance(error, QuotaExceeded):
        return Pending(PendingReason.QUOTA, error.words)
    if isinstance(error, WebhookAway):
        return Pending(PendingReason.ADMISSION, error.words)
    return Pending(PendingReason.API, error.words) if isinstance(error, Unreachable) else None


@dataclass
class _Held:
    attempt: Attempt
    state: Pending | Ended
    tries: int
    due: float


class Submissions:
    """The attempts that wait to be created, each tried again with growing pauses.

    The claim of an attempt is in memory only: after a restart of the service another attempt takes its place.
    Every method may be called from every thread.
    """

    def __init__(self, submit: Callable[[Attempt], None], clock: Callable[[], float]) -> None:
        """Make it.

        Args:
            submit: creates the objects of an attempt; raises `TryLater` or `LaunchFailed`.
            clock: seconds that only grow.
        """
        self._submit, self._clock = submit, clock
        self._lock = threading.Lock()
        self._held: dict[Key, _Held] = {}

    def add(self, attempt: Attempt, pending: Pending) -> None:
        """Have an attempt tried again."""
        with self._lock:
            self._held[_key(attempt)] = _Held(attempt, pending, 1, self._clock() + PAUSE_S)

    def state(self, key: Key) -> Pending | Ended | None:
        """What an attempt waits for, or how it ended when it was tried last; None for one that is not held."""
        with self._lock:
            held = self._held.get(key)
            return None if held is None else held.state

    def drop(self, operation: str) -> None:
        """Try no attempt of an operation again."""
        with self._lock:
            self._held = {key: held for key, held in self._held.items() if key[0] != operation_id(operation)}

    def keep(self, living: Collection[str]) -> None:
        """Try only attempts of these operations again; each is the last segment of its name."""
        with self._lock:
            self._held = {key: held for key, held in self._held.items() if key[0] in living}

    def sweep(self) -> None:
        """Try every attempt that is due."""
        now = self._clock()
        with self._lock:
            due = [key for key, held in self._held.items() if held.due <= now and isinstance(held.state, Pending)]
        for key in due:
            self._try(key)

    def _try(self, key: Key) -> None:
        with self._lock:
            held = self._held.get(key)
        if held is None:
            return
        state: Pending | Ended | None = None
        try:
            self._submit(held.attempt)
        except TryLater as later:
            state = later.pending
        except LaunchFailed as failed:
            state = failed.ended
        with self._lock:
            if state is None:
                self._held.pop(key, None)
            else:
                held.state = state
                held.due = self._clock() + min(PAUSE_S * 2.0 ** min(held.tries, 16), LONGEST_PAUSE_S)
                held.tries += 1


def _key(attempt: Attempt) -> Key:
    return operation_id(attempt.operation), attempt.attempt
