"""The life of a job, as a pure state machine.

QUEUED -> RUNNING -> SUCCEEDED | FAILED; RUNNING -> RETRYING -> RUNNING when an attempt is lost; CANCELLING from any of
them when asked, then CANCELLED, or SUCCEEDED when the result was faster.
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


@dataclass(frozen=True, slots=True)
class Attempts:
    """How many attempts were started, and how many may be."""

    started: int
    allowed: int

    @property
    def are_left(self) -> bool:
        """Whether another one may start."""
        return self.started < self.allowed


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
    # A process that is told to stop by its machine, not by a caller, has lost its attempt.
    (State.RUNNING, Event.STOPPED): State.RETRYING,
}


def move(state: State, event: Event, attempts: Attempts) -> State:
    """The state after an event.

    Raises:
        ImpossibleTransition: the event cannot happen in that state; a final state never changes.
    """
    if state is State.RUNNING and event is Event.LOST:
        return State.RETRYING if attempts.are_left else State.FAILED
    after = _MOVES.get((state, event))
    if after is None:
        raise ImpossibleTransition(f"{event.name} cannot happen to a job that is {state.name}")
    return after


def backoff_s(attempt: int, base_s: float, ceiling_s: float = 300.0) -> float:
    """Seconds to wait before attempt `attempt + 1`: the base, doubled for every attempt after the first."""
    return min(base_s * 2.0 ** (attempt - 1), ceiling_s)
