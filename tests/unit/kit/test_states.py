"""The life of a job, by simulation: ended means ended, attempts are bounded, a cancelled job stops."""

from __future__ import annotations

import random

import pytest

from anneal.kit.jobs.states import Attempts, Event, ImpossibleTransition, State, backoff_s, move


def test_every_walk_ends_in_a_final_state_within_its_attempts() -> None:
    chance = random.Random(7)
    ends = set()
    for _ in range(5_000):
        state, started, allowed, asked = State.QUEUED, 0, chance.randint(1, 4), False
        for _step in range(1000):
            events = list(Event)
            chance.shuffle(events)
            event = next(e for e in events if _can(state, e, started, allowed))
            after = move(state, event, Attempts(started, allowed))
            started += event is Event.LAUNCHED
            asked |= event is Event.CANCEL_ASKED
            assert not state.is_final
            assert after.has_attempt <= (started > 0)
            if asked and state is State.CANCELLING:
                assert after in (State.CANCELLING, State.CANCELLED, State.SUCCEEDED, State.FAILED)
            state = after
            if state.is_final:
                break
        assert state.is_final
        assert (state is State.CANCELLED) <= asked
        ends.add(state)
    assert ends == {State.SUCCEEDED, State.FAILED, State.CANCELLED}


def _can(state: State, event: Event, started: int, allowed: int) -> bool:
    if event is Event.STOPPED and state is State.RUNNING and started >= allowed:
        return False  # a machine that always stops is not simulated
    try:
        move(state, event, Attempts(started, allowed))
    except ImpossibleTransition:
        return False
    return True


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
@pytest.mark.parametrize("event", list(Event))
def test_a_final_state_never_changes(state: State, event: Event) -> None:
    with pytest.raises(ImpossibleTransition):
        move(state, event, Attempts(1, 9))


def test_the_last_attempt_is_the_last() -> None:
    assert move(State.RUNNING, Event.LOST, Attempts(2, 3)) is State.RETRYING
    assert move(State.RUNNING, Event.LOST, Attempts(3, 3)) is State.FAILED


def test_the_wait_doubles_up_to_its_ceiling() -> None:
    assert [backoff_s(n, 1.0) for n in (1, 2, 3)] == [1.0, 2.0, 4.0]
    assert backoff_s(50, 1.0) == 300.0
