"""The life of a job, by simulation: ended means ended, attempts are bounded, a cancelled job stops."""

from __future__ import annotations

import random

import pytest

from anneal.kit.jobs.states import Ends, Event, ImpossibleTransition, State, away_backoff_s, backoff_s, move

NOT_CHARGED = (Event.STOPPED, Event.INTERRUPTED)


def test_every_walk_ends_in_a_final_state_within_its_attempts() -> None:
    chance = random.Random(7)
    ends = set()
    for _ in range(5_000):
        state, started, asked = State.QUEUED, 0, False
        failed, interrupted = 0, 0
        failures, interruptions = chance.randint(1, 4), chance.randint(1, 20)
        for _step in range(1000):
            events = list(Event)
            chance.shuffle(events)
            counts = Ends(failed, failures), Ends(interrupted, interruptions)
            event = next(e for e in events if _can(state, e, *counts))
            after = move(state, event, *counts)
            started += event is Event.LAUNCHED
            failed += event.is_failure
            interrupted += event in NOT_CHARGED
            assert failed <= failures
            assert interrupted <= interruptions
            asked |= event is Event.CANCEL_ASKED
            assert not state.is_final
            assert after.has_attempt <= (started > 0)
            if asked and state is State.CANCELLING:
                assert after in (State.CANCELLING, State.CANCELLED, State.SUCCEEDED, State.FAILED)
            state = after
            if state.is_final:
                break
        assert state.is_final
        assert started < failures + interruptions
        assert (state is State.CANCELLED) <= asked
        ends.add(state)
    assert ends == {State.SUCCEEDED, State.FAILED, State.CANCELLED}


def _can(state: State, event: Event, failures: Ends, interruptions: Ends) -> bool:
    try:
        move(state, event, failures, interruptions)
    except ImpossibleTransition:
        return False
    return True


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
@pytest.mark.parametrize("event", list(Event))
def test_a_final_state_never_changes(state: State, event: Event) -> None:
    with pytest.raises(ImpossibleTransition):
        move(state, event, Ends(1, 9), Ends(1, 9))


def test_the_last_failure_is_the_last() -> None:
    assert move(State.RUNNING, Event.LOST, Ends(1, 3), Ends(9, 10)) is State.RETRYING
    assert move(State.RUNNING, Event.LOST, Ends(2, 3), Ends(0, 10)) is State.FAILED


@pytest.mark.parametrize("event", NOT_CHARGED)
def test_what_the_server_ended_is_charged_to_nobody_but_not_forever(event: Event) -> None:
    assert not event.is_failure
    assert move(State.RUNNING, event, Ends(2, 3), Ends(8, 10)) is State.RETRYING
    assert move(State.RUNNING, event, Ends(0, 3), Ends(9, 10)) is State.FAILED
    assert move(State.CANCELLING, event, Ends(2, 3), Ends(9, 10)) is State.CANCELLED


def test_the_wait_doubles_up_to_its_ceiling() -> None:
    assert [backoff_s(n, 1.0) for n in (0, 1, 2, 3)] == [1.0, 1.0, 2.0, 4.0]
    assert backoff_s(50, 1.0) == 300.0
    assert backoff_s(100_000, 1.0) == 300.0


def test_the_wait_has_jitter() -> None:
    assert [backoff_s(3, 5.0, chance=chance) for chance in (0.0, 0.5, 1.0)] == [15.0, 20.0, 25.0]
    chance = random.Random(7)
    waits = {backoff_s(4, 5.0, chance=chance.random()) for _ in range(100)}
    assert len(waits) == 100
    assert 30 <= min(waits) < max(waits) <= 50


def test_a_service_that_is_away_is_waited_for_and_found_soon_after_it_is_back() -> None:
    away, tries = 0.0, 0
    while away < 900:
        wait = away_backoff_s(away, 5.0)
        assert 5 <= wait <= 60
        away, tries = away + wait, tries + 1
    assert tries < 50  # fewer than `max_interruptions`, which bounds them, too
    assert away_backoff_s(900, 5.0, chance=1.0) == 75.0
