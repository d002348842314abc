"""What can be read of jobs, without the write lock that every change takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from anneal.kit.errors import Missing
from anneal.kit.jobs.states import State
from anneal.kit.jobs.tables import EventRow, JobRow
from anneal.kit.sql import READING


class OperationMissing(Missing):
    """There is no such operation."""

    reason = "OPERATION_MISSING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it was read.

    Attributes:
        token_hash: digest of the present attempt's token; empty before its process has claimed the work.
        claim_time: when it did, in seconds since the epoch.
        pending_reason: what the job waits for, a `PendingReason`; empty while it does not.
        pending_text: the same as a sentence.
        pending_since: when that wait began.
        away_since: when attempts began to fail because another service does not answer; 0 while they do not.
    """

    name: str
    project: str
    kind: str
    state: State
    attempt: int
    failures: int
    max_attempts: int
    request: bytes
    request_id: str
    lease_until: float
    not_before: float
    last_sequence: int
    progress: bytes | None
    result: bytes | None
    error: bytes | None
    last_failure: str
    token_hash: str = field(default="", repr=False)
    claim_time: float = 0.0
    pending_reason: str = ""
    pending_text: str = ""
    pending_since: float = 0.0
    away_since: float = 0.0
    create_time: float
    start_time: float | None
    end_time: float | None

    @property
    def interruptions(self) -> int:
        """Attempts before the present one that ended without being charged."""
        return max(0, self.attempt - 1 - self.failures)

    @property
    def is_claimed(self) -> bool:
        """Whether the process of the present attempt has claimed its work."""
        return bool(self.token_hash)


def job_of(row: Any) -> Job:
    """A row of the table `jobs` as a job."""
    values: dict[str, Any] = {name: getattr(row, name) for name in Job.__dataclass_fields__}
    return Job(**{**values, "state": State[row.state]})


class JobReader:
    """Reads jobs and their events. The clock is given, so that tests can turn it."""

    def __init__(self, engine: AsyncEngine, *, clock: Callable[[], float] = time.time) -> None:
        self._reading = engine.execution_options(**READING)
        self._clock = clock

    async def get(self, name: str) -> Job:
        """One job.

        Raises:
            OperationMissing: there is none of that name.
        """
        async with self._reading.connect() as db:
            return await self._read(db, name)

    async def _read(self, db: AsyncConnection, name: str, *, lock: bool = False) -> Job:
        query = select(JobRow.__table__).where(JobRow.name == name)
        row = (await db.execute(query.with_for_update() if lock else query)).one_or_none()
        if row is None:
            raise OperationMissing(f"there is no operation {name}", operation=name)
        return job_of(row)

    async def page(
        self, project: str, *, size: int, after: tuple[float, str] | None = None, kind: str = ""
    ) -> list[Job]:
        """Jobs of a project, newest first, `size` at most, after a (create_time, name) cursor."""
        query = select(JobRow.__table__).where(JobRow.project == project)
        if kind:
            query = query.where(JobRow.kind == kind)
        if after is not None:
            earlier = JobRow.create_time < after[0]
            same = (JobRow.create_time == after[0]) & (JobRow.name < after[1])
            query = query.where(earlier | same)
        query = query.order_by(JobRow.create_time.desc(), JobRow.name.desc()).limit(size)
        async with self._reading.connect() as db:
            return [job_of(row) for row in (await db.execute(query)).all()]

    async def events(self, name: str, from_sequence: int, limit: int = 500) -> list[tuple[int, float, bytes]]:
        """Events of a job from a sequence number on: sequence, time, serialized event."""
        query = (
            select(EventRow.sequence, EventRow.time, EventRow.payload)
            .where(EventRow.operation == name, EventRow.sequence >= from_sequence)
            .order_by(EventRow.sequence)
            .limit(limit)
        )
        async with self._reading.connect() as db:
            return [(s, t, p) for s, t, p in (await db.execute(query)).all()]

    async def counts(self) -> list[tuple[str, State, int]]:
        """Jobs by kind and state."""
        query = select(JobRow.kind, JobRow.state, func.count()).group_by(JobRow.kind, JobRow.state)
        async with self._reading.connect() as db:
            return [(kind, State[state], n) for kind, state, n in (await db.execute(query)).all()]

    async def waiting(self, kinds: Sequence[str], *, limit: int) -> list[Job]:
        """Jobs whose next attempt is due, oldest first, `limit` at most."""
        states = [State.QUEUED.name, State.RETRYING.name]
        query = (
            select(JobRow.__table__)
            .where(JobRow.state.in_(states), JobRow.not_before <= self._clock(), JobRow.kind.in_(list(kinds)))
            .order_by(JobRow.create_time)
            .limit(limit)
        )
        async with self._reading.connect() as db:
            return [job_of(row) for row in (await db.execute(query)).all()]

    async def active(self, kinds: Sequence[str]) -> list[Job]:
        """Jobs that have an attempt."""
        states = [State.RUNNING.name, State.CANCELLING.name]
        query = select(JobRow.__table__).where(JobRow.state.in_(states), JobRow.kind.in_(list(kinds)))
        async with self._reading.connect() as db:
            return [job_of(row) for row in (await db.execute(query)).all()]
