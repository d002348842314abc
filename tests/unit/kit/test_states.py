"""The life of a job, by simulation: ended means ended, failures are bounded, a cancelled job stops."""

from __future__ import annotations

import random

import pytest

from anneal.kit.jobs.states import Event, Failures, ImpossibleTransition, State, backoff_s, move

NOT_CHARGED = (Event.STOPPED, Event.INTERRUPTED)


def test_every_walk_ends_in_a_final_state_within_its_failures() -> None:
    chance = random.Random(7)
    ends = set()
    for _ in range(5_000):
        state, started, failed, allowed, asked = State.QUEUED, 0, 0, chance.randint(1, 4), False
        interrupted = 0
        for _step in range(1000):
            events = list(Event)
            chance.shuffle(events)
            event = next(e for e in events if _can(state, e, failed, allowed, interrupted))
            after = move(state, event, Failures(failed, allowed))
            started += event is Event.LAUNCHED
            failed += event.is_failure
            interrupted += event in NOT_CHARGED
            assert failed <= allowed
            asked |= event is Event.CANCEL_ASKED
            assert not state.is_final
            assert after.has_attempt <= (started > 0)
            if asked and state is State.CANCELLING:
                assert after in (State.CANCELLING, State.CANCELLED, State.SUCCEEDED, State.FAILED)
            state = after
            if state.is_final:
                break
        assert state.is_final
        assert started <= allowed + interrupted
        assert (state is State.CANCELLED) <= asked
        ends.add(state)
    assert ends == {State.SUCCEEDED, State.FAILED, State.CANCELLED}


def _can(state: State, event: Event, failed: int, allowed: int, interrupted: int) -> bool:
    if event in NOT_CHARGED and interrupted >= 20:
        return False  # a machine that always stops is not simulated
    try:
        move(state, event, Failures(failed, allowed))
    except ImpossibleTransition:
        return False
    return True


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
@pytest.mark.parametrize("event", list(Event))
def test_a_final_state_never_changes(state: State, event: Event) -> None:
    with pytest.raises(ImpossibleTransition):
        move(state, event, Failures(1, 9))


def test_the_last_failure_is_the_last() -> None:
    assert move(State.RUNNING, Event.LOST, Failures(1, 3)) is State.RETRYING
    assert move(State.RUNNING, Event.LOST, Failures(2, 3)) is State.FAILED


@pytest.mark.parametrize("event", NOT_CHARGED)
def test_what_the_server_ended_is_charged_to_nobody(event: Event) -> None:
    assert not event.is_failure
    assert move(State.RUNNING, event, Failures(2, 3)) is State.RETRYING
    assert move(State.CANCELLING, event, Failures(2, 3)) is State.CANCELLED


def test_the_wait_doubles_up_to_its_ceiling() -> None:
    assert [backoff_s(n, 1.0) for n in (0, 1, 2, 3)] == [1.0, 1.0, 2.0, 4.0]
    assert backoff_s(50, 1.0) == 300.0
