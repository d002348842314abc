"""What a job says between two heartbeats, and how much of it one of them takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from anneal.kit.jobs.context import JobContext
from anneal.kit.store import Store


@pytest.fixture
def context(tmp_path: Path) -> JobContext:
    return JobContext(
        operation="projects/p/operations/count-1",
        attempt=1,
        store=Store(str(tmp_path / "store"), tmp_path / "cache"),
        scratch=tmp_path,
        addresses={},
        token="",
        options={},
    )


def test_a_heartbeat_takes_what_one_message_holds(context: JobContext) -> None:
    for number in range(5):
        context.log(f"{number}" * 1000)
    taken = [context.take_events(size_bytes=2500) for _ in range(4)]
    assert [[event.log.text[0] for event in events] for events in taken] == [["0", "1"], ["2", "3"], ["4"], []]


def test_one_event_is_taken_however_long_it_is(context: JobContext) -> None:
    context.log("a" * 1000)
    assert len(context.take_events(size_bytes=10)) == 1


def test_no_more_events_are_taken_than_asked_for(context: JobContext) -> None:
    for number in range(3):
        context.log(str(number))
    assert [len(context.take_events(limit=2)) for _ in range(3)] == [2, 1, 0]
