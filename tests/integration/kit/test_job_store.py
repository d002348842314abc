"""The job store on SQLite and on PostgreSQL: races have one winner, an old attempt is fenced, batches count once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from anneal.kit.jobs.codec import encode_state
from anneal.kit.jobs.states import Event, State, backoff_s
from anneal.kit.jobs.store import AttemptFenced, ClaimInvalid, JobStore
from anneal.kit.jobs.tables import defaults
from anneal.kit.sql import open_engine
from anneal.v1 import job_service_pb2 as pb


class Clock:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[JobStore]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'jobs.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    engine = open_engine(url)
    made = JobStore(engine, encode_state, clock=clock)
    await made.create_tables()
    yield made
    await engine.dispose()


async def accept(store: JobStore, request_id: str = "", request: bytes = b"r") -> str:
    job = await store.accept(project="projects/p", kind="k", request=request, request_id=request_id, max_attempts=3)
    return job.name


async def running(store: JobStore) -> tuple[str, str]:
    """A job with a claimed attempt: its name and token."""
    name = await accept(store)
    launched = await store.launch(name, 10)
    assert launched is not None
    _, token = await store.claim(name, launched[1], 10)
    return name, token


async def test_twenty_callers_with_one_request_id_get_one_job(store: JobStore) -> None:
    names = await asyncio.gather(*(accept(store, "same") for _ in range(20)))
    assert len(set(names)) == 1


async def test_a_request_id_is_free_again_after_a_day(store: JobStore, clock: Clock) -> None:
    first = await accept(store, "id")
    clock.now += 24 * 3600 - 1
    assert await accept(store, "id") == first
    clock.now += 2
    assert await accept(store, "id", b"other") != first


async def test_twenty_hosts_launch_a_job_once(store: JobStore) -> None:
    name = await accept(store)
    launched = await asyncio.gather(*(store.launch(name, 10) for _ in range(20)))
    assert sum(found is not None for found in launched) == 1
    assert (await store.get(name)).attempt == 1


async def test_a_claim_is_good_once(store: JobStore) -> None:
    name = await accept(store)
    launched = await store.launch(name, 10)
    assert launched is not None

    async def claim() -> str:
        try:
            await store.claim(name, launched[1], 10)
        except ClaimInvalid:
            return "refused"
        return "taken"

    assert Counter(await asyncio.gather(*(claim() for _ in range(8)))) == {"taken": 1, "refused": 7}


async def test_the_attempt_that_was_given_up_can_change_nothing(store: JobStore, clock: Clock) -> None:
    name, old = await running(store)
    assert await store.lose(name, 1, error=b"", text="lost", backoff_s=1)
    assert not await store.lose(name, 1, error=b"", text="lost", backoff_s=1)
    assert await store.waiting(["k"], limit=9) == []
    clock.now += 1.5
    assert [job.name for job in await store.waiting(["k"], limit=9)] == [name]
    launched = await store.launch(name, 10)
    assert launched is not None
    _, token = await store.claim(name, launched[1], 10)
    calls: list[Any] = [
        store.heartbeat(name, old, batch=9, events=[b""], progress=None, lease_s=10),
        store.complete(name, old, b"old"),
        store.fail(name, old, error=b"", text="", event=Event.REFUSED, backoff_s=1),
    ]
    for call in calls:
        with pytest.raises(AttemptFenced):
            await call
    await store.complete(name, token, b"new")
    ended = await store.get(name)
    assert (ended.state, ended.result) == (State.SUCCEEDED, b"new")
    with pytest.raises(AttemptFenced):
        await store.complete(name, token, b"again")


async def test_a_batch_sent_twice_is_stored_once_and_numbers_have_no_gap(store: JobStore) -> None:
    name, token = await running(store)
    event = pb.JobEvent(log=pb.LogLine(level="info", text="t")).SerializeToString()
    for batch in (1, 1, 2, 2, 1):
        await store.heartbeat(name, token, batch=batch, events=[event, event], progress=None, lease_s=10)
    found = await store.events(name, 1)
    assert [sequence for sequence, _, _ in found] == list(range(1, 7))  # queued, running, and two batches of two
    assert [sequence for sequence, _, _ in await store.events(name, 5)] == [5, 6]


async def test_a_cancelled_job_tells_its_process(store: JobStore) -> None:
    name, token = await running(store)
    assert await store.ask_cancel(name) is State.CANCELLING
    asked, _ = await store.heartbeat(name, token, batch=1, events=[], progress=None, lease_s=10)
    assert asked
    await store.fail(name, token, error=b"", text="stopped", event=Event.STOPPED, backoff_s=1)
    assert (await store.get(name)).state is State.CANCELLED
    waiting = await accept(store)
    assert await store.ask_cancel(waiting) is State.CANCELLED


async def test_restarts_of_the_server_are_not_charged(store: JobStore, clock: Clock) -> None:
    name, token = await running(store)  # three failures are allowed

    async def again() -> str:
        clock.now += 100
        launched = await store.launch(name, 10)
        assert launched is not None
        return (await store.claim(name, launched[1], 10))[1]

    for _ in range(5):
        await store.fail(name, token, error=b"", text="", event=Event.STOPPED, backoff_s=1)
        await again()
        attempt = (await store.get(name)).attempt
        assert await store.lose(name, attempt, error=b"", text="", backoff_s=1, event=Event.INTERRUPTED)
        token = await again()
    job = await store.get(name)
    assert (job.state, job.attempt, job.failures) == (State.RUNNING, 11, 0)
    for _ in range(2):
        await store.fail(name, token, error=b"", text="", event=Event.LOST, backoff_s=1)
        token = await again()
    await store.fail(name, token, error=b"e", text="", event=Event.LOST, backoff_s=1)
    job = await store.get(name)
    assert (job.state, job.failures, job.error) == (State.FAILED, 3, b"e")


async def test_a_job_that_is_always_interrupted_ends(store: JobStore, clock: Clock) -> None:
    name, _ = await running(store)
    waits = []
    for attempt in range(1, 50):
        wait_s = backoff_s(attempt, 1)
        assert await store.lose(name, attempt, error=b"e", text="lost", backoff_s=wait_s, event=Event.INTERRUPTED)
        job = await store.get(name)
        assert (job.state, job.failures, job.error) == (State.RETRYING, 0, None)
        waits.append(job.not_before - clock.now)
        clock.now = job.not_before
        assert await store.launch(name, 10) is not None
    assert waits[:4] == [1, 2, 4, 8]
    assert max(waits) == 300
    assert (await store.get(name)).interruptions == 49
    assert await store.lose(name, 50, error=b"e", text="lost", backoff_s=1, event=Event.INTERRUPTED)
    job = await store.get(name)
    assert (job.state, job.failures, job.error) == (State.FAILED, 0, b"e")


async def test_a_database_of_an_earlier_release_gets_the_columns_it_lacks(store: JobStore) -> None:
    name = await accept(store)
    later = ("failures", "pending_reason", "pending_text", "pending_since", "claim_time", "away_since")
    async with store._engine.begin() as db:
        for column in later:
            await db.exec_driver_sql(f"ALTER TABLE jobs DROP COLUMN {column}")
    await store._engine.dispose()  # PostgreSQL's driver remembers the columns of its statements
    await store.create_tables()
    await store.create_tables()
    for job in (await store.get(name), await store.get(await accept(store))):
        assert {column: getattr(job, column) for column in later} == {**dict.fromkeys(later, 0), **_texts(later)}


def _texts(columns: tuple[str, ...]) -> dict[str, str]:
    return {name: "" for name, value in defaults().items() if value == "" and name in columns}


async def test_a_wait_is_stored_until_the_job_moves_on(store: JobStore) -> None:
    name = await accept(store)
    queued = await store.get(name)
    event = pb.JobEvent(progress=pb.Progress(message="waiting for its turn")).SerializeToString()
    await store.show_pending(queued, reason="turn", text="waiting for its turn", since=1_000.0, event=event)
    job = await store.get(name)
    assert (job.pending_reason, job.pending_text, job.pending_since) == ("turn", "waiting for its turn", 1_000.0)
    launched = await store.launch(name, 10)
    assert launched is not None
    assert launched[0].pending_reason == ""
    # The job has moved on since it was read: what it waited for is not written.
    await store.show_pending(queued, reason="turn", text="waiting for its turn", since=1_000.0, event=event)
    assert (await store.get(name)).pending_reason == ""
    await store.show_pending(launched[0], reason="node", text="waiting for a node", since=1_001.0, event=event)
    assert await store.lose(name, 1, error=b"", text="lost", backoff_s=0)
    assert (await store.get(name)).pending_reason == ""
    messages = [pb.JobEvent.FromString(payload).progress.message for _, _, payload in await store.events(name, 1)]
    assert messages.count("waiting for its turn") == 2


async def test_the_oldest_waiting_jobs_come_first_and_no_more_than_asked_for(store: JobStore, clock: Clock) -> None:
    names = []
    for _ in range(3):
        names.append(await accept(store))
        clock.now += 1
    assert [job.name for job in await store.waiting(["k"], limit=2)] == names[:2]


async def test_every_change_is_counted(store: JobStore) -> None:
    name = await accept(store, "id")
    assert store.changes == 1
    await accept(store, "id")
    await store.get(name)
    assert store.changes == 1
    await store.ask_cancel(name)
    await store.forget(name)
    assert store.changes == 3
