"""The life of a job, as a pure state machine.

QUEUED -> RUNNING -> SUCCEEDED | FAILED; RUNNING -> RETRYING -> RUNNING when an attempt is lost; CANCELLING from any of
them when asked, then CANCELLED, or SUCCEEDED when the result was faster.

Attempts have numbers; failures are counted apart from them: an attempt that its server or its machine ended is followed
by another one and charged to nobody. Such interruptions have a bound of their own, far higher: a job that takes its
server or its node down with it each time is not started forever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """Where a job is."""

    QUEUED = 1
    RUNNING = 2
    RETRYING = 3
    CANCELLING = 4
    SUCCEEDED = 5
    FAILED = 6
    CANCELLED = 7

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)

    @property
    def has_attempt(self) -> bool:
        """Whether an attempt may be running."""
        return self in (State.RUNNING, State.CANCELLING)


class Event(Enum):
    """What can happen to a job."""

    LAUNCHED = "an attempt was started"
    COMPLETED = "the attempt handed over its result"
    REFUSED = "the attempt failed for the request's own fault"
    LOST = "the attempt died, or its lease ran out"
    CANCEL_ASKED = "a caller asked it to stop"
    STOPPED = "the attempt stopped as asked"
    INTERRUPTED = "the attempt ended with its server or its machine"

    @property
    def is_failure(self) -> bool:
        """Whether the attempt is charged for it."""
        return self in (Event.LOST, Event.REFUSED)


@dataclass(frozen=True, slots=True)
class Ends:
    """How many attempts before the present one ended in some way, and how many may in all."""

    before: int
    allowed: int

    @property
    def leave_another(self) -> bool:
        """Whether another attempt may start when the present one ends that way, too."""
        return self.before + 1 < self.allowed


class ImpossibleTransition(ValueError):
    """The event cannot happen in that state."""


_MOVES: Mapping[tuple[State, Event], State] = {
    (State.QUEUED, Event.LAUNCHED): State.RUNNING,
    (State.RETRYING, Event.LAUNCHED): State.RUNNING,
    (State.RUNNING, Event.COMPLETED): State.SUCCEEDED,
    (State.CANCELLING, Event.COMPLETED): State.SUCCEEDED,
    (State.RUNNING, Event.REFUSED): State.FAILED,
    (State.CANCELLING, Event.REFUSED): State.FAILED,
    (State.QUEUED, Event.CANCEL_ASKED): State.CANCELLED,
    (State.RETRYING, Event.CANCEL_ASKED): State.CANCELLED,
    (State.RUNNING, Event.CANCEL_ASKED): State.CANCELLING,
    (State.CANCELLING, Event.CANCEL_ASKED): State.CANCELLING,
    (State.CANCELLING, Event.STOPPED): State.CANCELLED,
    (State.CANCELLING, Event.LOST): State.CANCELLED,
    (State.CANCELLING, Event.INTERRUPTED): State.CANCELLED,
}


def move(state: State, event: Event, failures: Ends, interruptions: Ends) -> State:
    """The state after an event.

    Args:
        state: before it.
        event: what happened.
        failures: attempts that were charged.
        interruptions: attempts that were not.

    Raises:
        ImpossibleTransition: the event cannot happen in that state; a final state never changes.
    """
    if state is State.RUNNING and event in (Event.LOST, Event.STOPPED, Event.INTERRUPTED):
        # A process that is told to stop by its machine, not by a caller, has been interrupted.
        counted = failures if event.is_failure else interruptions
        return State.RETRYING if counted.leave_another else State.FAILED
    after = _MOVES.get((state, event))
    if after is None:
        raise ImpossibleTransition(f"{event.name} cannot happen to a job that is {state.name}")
    return after


JITTER = 0.25


def backoff_s(attempts: int, base_s: float, ceiling_s: float = 300.0, *, chance: float = 0.5) -> float:
    """Seconds to wait before the next attempt: the base, doubled for every attempt after the first, and jitter.

    Args:
        attempts: those that ended.
        base_s: wait after the first one.
        ceiling_s: longest wait, without jitter.
        chance: a random number from 0 to 1: jobs that failed together do not start together. It moves the wait by at
            most `JITTER` of it; 0.5 does not move it.
    """
    return _jittered(min(base_s * 2.0 ** min(62, max(0, attempts - 1)), ceiling_s), chance)


def away_backoff_s(away_s: float, base_s: float, ceiling_s: float = 60.0, *, chance: float = 0.5) -> float:
    """Seconds to wait for another service: half of the time it has been away, at least the base, and jitter.

    The ceiling is low, so that a job goes on at most a minute after the service is back.
    """
    return _jittered(max(base_s, min(away_s / 2, ceiling_s)), chance)


def _jittered(wait_s: float, chance: float) -> float:
    return wait_s * (1 - JITTER + 2 * JITTER * chance)
