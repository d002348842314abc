"""Where jobs are kept. Every state change is one transaction, and no other module changes a job's state."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from anneal.kit.errors import Denied, NotYet, RequestIdReused
from anneal.kit.jobs.reader import Job, JobReader, job_of
from anneal.kit.jobs.states import Ends, Event, State, move
from anneal.kit.jobs.tables import EventRow, JobRow, create, defaults

REQUEST_ID_LIFE_S = 24 * 3600
NOT_PENDING = {"pending_reason": "", "pending_text": "", "pending_since": 0.0}


class OperationNotDone(NotYet):
    """The operation has not ended."""

    reason = "OPERATION_NOT_DONE"


class ClaimInvalid(Denied):
    """The claim is not the one this attempt was launched with, or was used."""

    reason = "CLAIM_INVALID"


class AttemptFenced(Denied):
    """The attempt was given up; what it says counts no more."""

    reason = "ATTEMPT_FENCED"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class JobStore(JobReader):
    """Jobs and their events in a database, to read and to change.

    Attributes:
        changes: how often this store has changed a job's state, accepted or forgotten one.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        encode_state: Callable[[State], bytes],
        *,
        clock: Callable[[], float] = time.time,
        on_change: Callable[[str, str, State, float], None] = lambda *_: None,
        max_interruptions: int = 50,
    ) -> None:
        """Make the store.

        Args:
            engine: the database.
            encode_state: a state change as a serialized `JobEvent` without sequence and time.
            clock: seconds since the epoch.
            on_change: called after every state change with name, kind, new state and the job's age in seconds.
            max_interruptions: attempts of a job, in all, that may end without being charged to it.
        """
        super().__init__(engine, clock=clock)
        self._engine = engine
        self._encode_state = encode_state
        self._on_change = on_change
        self._max_interruptions = max_interruptions
        self.changes = 0

    async def create_tables(self) -> None:
        """Create what is missing."""
        async with self._engine.begin() as db:
            await db.run_sync(create)

    # -- accepting -----------------------------------------------------------------------------------------------

    async def accept(self, *, project: str, kind: str, request: bytes, request_id: str, max_attempts: int) -> Job:
        """Accept an order. The same `request_id` within 24 h returns the job that exists.

        Raises:
            RequestIdReused: the same id came with another kind or other content.
        """
        now = self._clock()
        request_hash = hashlib.sha256(kind.encode() + b"\0" + request).hexdigest()
        key = f"{project}/{request_id}" if request_id else None
        for last_try in (False, True):
            try:
                async with self._engine.begin() as db:
                    if key is not None and (known := await self._by_key(db, key, now)) is not None:
                        if not hmac.compare_digest(known.request_hash, request_hash):
                            raise RequestIdReused(
                                f"request_id {request_id} was used for another request", request_id=request_id
                            )
                        return job_of(known)
                    name = f"{project}/operations/{kind.replace('_', '-')}-{uuid.uuid4().hex[:12]}"
                    values = {
                        "name": name,
                        "project": project,
                        "kind": kind,
                        "state": State.QUEUED.name,
                        "max_attempts": max_attempts,
                        "request": request,
                        "request_hash": request_hash,
                        "request_key": key,
                        "request_id": request_id,
                        "create_time": now,
                    }
                    await db.execute(insert(JobRow).values(**{**defaults(), **values}))
                    await self._say_state(db, name, State.QUEUED)
                    job = await self._read(db, name)
                self._changed(job)
                return job
            except IntegrityError:
                if last_try:  # somebody else took the same request id in between; the second look finds it
                    raise
        raise AssertionError("unreachable")

    async def _by_key(self, db: AsyncConnection, key: str, now: float) -> Any:
        expired = now - REQUEST_ID_LIFE_S
        await db.execute(
            update(JobRow).where(JobRow.request_key == key, JobRow.create_time < expired).values(request_key=None)
        )
        return (await db.execute(select(JobRow.__table__).where(JobRow.request_key == key))).one_or_none()

    async def has_request(self, project: str, request_id: str) -> bool:
        """Whether an order with this id was accepted in the last 24 h."""
        async with self._engine.begin() as db:
            return await self._by_key(db, f"{project}/{request_id}", self._clock()) is not None

    # -- attempts ------------------------------------------------------------------------------------------------

    async def launch(self, name: str, lease_s: float) -> tuple[Job, str] | None:
        """Start an attempt: the job and the claim its process must show; None when another host was faster."""
        claim = secrets.token_urlsafe(24)
        async with self._engine.begin() as db:
            job = await self._read(db, name, lock=True)
            if job.state not in (State.QUEUED, State.RETRYING):
                return None
            now = self._clock()
            values = {
                "attempt": job.attempt + 1,
                "claim_hash": _hash(claim),
                "token_hash": "",
                "lease_until": now + lease_s,
                "last_batch": 0,
                "start_time": now if job.start_time is None else job.start_time,
            }
            changed = await self._move(db, job, Event.LAUNCHED, **values)
        self._changed(changed)
        return changed, claim

    async def claim(self, name: str, claim: str, lease_s: float) -> tuple[Job, str]:
        """Give the attempt its token, once.

        Raises:
            OperationMissing: there is no such job.
            ClaimInvalid: the claim is wrong, was used, or its attempt is over.
        """
        token = secrets.token_urlsafe(24)
        async with self._engine.begin() as db:
            job = await self._read(db, name, lock=True)
            row = (await db.execute(select(JobRow.claim_hash).where(JobRow.name == name))).one()
            if not row.claim_hash or not hmac.compare_digest(row.claim_hash, _hash(claim)) or not job.state.has_attempt:
                raise ClaimInvalid(f"this claim on {name} is not valid", operation=name)
            now = self._clock()
            values = {"claim_hash": "", "token_hash": _hash(token), "lease_until": now + lease_s, "claim_time": now}
            await db.execute(update(JobRow).where(JobRow.name == name).values(**values))
        return job, token

    async def check_token(self, name: str, token: str) -> Job:
        """The job, when the token is its living attempt's.

        Raises:
            AttemptFenced: it is not.
        """
        async with self._reading.connect() as db:
            return await self._fenced(db, name, token)

    async def _fenced(self, db: AsyncConnection, name: str, token: str, *, lock: bool = False) -> Job:
        job = await self._read(db, name, lock=lock)
        row = (await db.execute(select(JobRow.token_hash).where(JobRow.name == name))).one()
        if not job.state.has_attempt or not row.token_hash or not hmac.compare_digest(row.token_hash, _hash(token)):
            raise AttemptFenced(f"this attempt of {name} was given up", operation=name)
        return job

    async def heartbeat(
        self, name: str, token: str, *, batch: int, events: Iterable[bytes], progress: bytes | None, lease_s: float
    ) -> tuple[bool, bool]:
        """Extend the lease and store a batch of events once.

        Returns:
            Whether the job was asked to stop, and whether the batch was new.

        Raises:
            AttemptFenced: the token is not the living attempt's.
        """
        async with self._engine.begin() as db:
            job = await self._fenced(db, name, token, lock=True)
            values: dict[str, Any] = {"lease_until": self._clock() + lease_s}
            row = (await db.execute(select(JobRow.last_batch).where(JobRow.name == name))).one()
            is_new = batch > row.last_batch
            if is_new:
                values["last_batch"] = batch
                if progress is not None:
                    values["progress"] = progress
                await self._say(db, name, list(events))
            await db.execute(update(JobRow).where(JobRow.name == name).values(**values))
        return job.state is State.CANCELLING, is_new

    async def complete(self, name: str, token: str, result: bytes) -> None:
        """End a job with its result.

        Raises:
            AttemptFenced: the token is not the living attempt's.
        """
        async with self._engine.begin() as db:
            job = await self._fenced(db, name, token, lock=True)
            changed = await self._move(db, job, Event.COMPLETED, result=result, token_hash="")
        self._changed(changed)

    async def fail(
        self,
        name: str,
        token: str,
        *,
        error: bytes,
        text: str,
        event: Event,
        backoff_s: float,
        away_since: float = 0.0,
        events: Iterable[bytes] = (),
    ) -> None:
        """End an attempt without a result; arguments as in `lose`.

        Raises:
            AttemptFenced: the token is not the living attempt's.
        """
        async with self._engine.begin() as db:
            job = await self._fenced(db, name, token, lock=True)
            changed = await self._end_attempt(
                db, job, event, error=error, text=text, backoff_s=backoff_s, away_since=away_since, events=events
            )
        self._changed(changed)

    async def lose(
        self,
        name: str,
        attempt: int,
        *,
        error: bytes,
        text: str,
        backoff_s: float,
        event: Event = Event.LOST,
        events: Iterable[bytes] = (),
    ) -> bool:
        """Give an attempt up because its process died or its lease ran out; False when it is over already.

        Args:
            name: of the operation.
            attempt: its number.
            error: what the job fails with where no other attempt follows, a serialized status.
            text: why the attempt ended.
            backoff_s: seconds until the next attempt where one follows.
            event: INTERRUPTED where the process ended with its server or its machine, which counts as no failure, and
                REFUSED where no other attempt would do better.
            events: serialized events, stored before the change of state.
        """
        async with self._engine.begin() as db:
            job = await self._read(db, name, lock=True)
            if job.attempt != attempt or not job.state.has_attempt:
                return False
            changed = await self._end_attempt(
                db, job, event, error=error, text=text, backoff_s=backoff_s, away_since=0.0, events=events
            )
        self._changed(changed)
        return True

    async def prolong(self, name: str, attempt: int, lease_s: float) -> None:
        """Give a living attempt more time to be heard of; an ended one is left."""
        async with self._engine.begin() as db:
            job = await self._read(db, name, lock=True)
            if job.attempt != attempt or not job.state.has_attempt:
                return
            lease_until = max(job.lease_until, self._clock() + lease_s)
            await db.execute(update(JobRow).where(JobRow.name == name).values(lease_until=lease_until))

    async def show_pending(self, job: Job, *, reason: str, text: str, since: float, event: bytes) -> None:
        """Store what a job waits for, and the event that says so; a job that has changed meanwhile is left.

        Args:
            job: as it was read.
            reason: a `PendingReason`; empty where it does not wait any more.
            text: the reason as a sentence.
            since: when the wait began, in seconds since the epoch.
            event: a serialized event.
        """
        values = {"pending_reason": reason, "pending_text": text, "pending_since": since} if reason else NOT_PENDING
        async with self._engine.begin() as db:
            now = await self._read(db, job.name, lock=True)
            if (now.attempt, now.state, now.token_hash) != (job.attempt, job.state, job.token_hash):
                return
            await self._say(db, job.name, [event])
            await db.execute(update(JobRow).where(JobRow.name == job.name).values(**values))

    async def _end_attempt(
        self,
        db: AsyncConnection,
        job: Job,
        event: Event,
        *,
        error: bytes,
        text: str,
        backoff_s: float,
        away_since: float,
        events: Iterable[bytes],
    ) -> Job:
        after = self._after(job, event)
        failures = job.failures + event.is_failure
        values: dict[str, Any] = {
            "token_hash": "",
            "claim_hash": "",
            "last_failure": text[:2000],
            "failures": failures,
            "away_since": away_since,
        }
        if after is State.RETRYING:
            values["not_before"] = self._clock() + backoff_s
        if after is State.FAILED:
            values["error"] = error
        if not after.is_final or event.is_failure:
            await self._say(db, job.name, list(events))
        return await self._move(db, job, event, **values)

    async def ask_cancel(self, name: str) -> State:
        """Ask a job to stop; an ended one stays as it is.

        Raises:
            OperationMissing: there is none of that name.
        """
        async with self._engine.begin() as db:
            job = await self._read(db, name, lock=True)
            if job.state.is_final or job.state is State.CANCELLING:
                return job.state
            changed = await self._move(db, job, Event.CANCEL_ASKED)
        self._changed(changed)
        return changed.state

    async def forget(self, name: str) -> None:
        """Delete an ended job with its events.

        Raises:
            OperationMissing: there is none of that name.
            OperationNotDone: it has not ended.
        """
        async with self._engine.begin() as db:
            job = await self._read(db, name, lock=True)
            if not job.state.is_final:
                raise OperationNotDone(f"{name} has not ended: cancel it first", operation=name)
            await db.execute(delete(EventRow).where(EventRow.operation == name))
            await db.execute(delete(JobRow).where(JobRow.name == name))
        self.changes += 1

    # -- inside a transaction ------------------------------------------------------------------------------------

    def _after(self, job: Job, event: Event) -> State:
        interruptions = Ends(job.interruptions, self._max_interruptions)
        return move(job.state, event, Ends(job.failures, job.max_attempts), interruptions)

    async def _move(self, db: AsyncConnection, job: Job, event: Event, **values: Any) -> Job:
        after = self._after(job, event)
        values = {**NOT_PENDING, **values}
        if after.is_final:
            values["end_time"] = self._clock()
        await db.execute(update(JobRow).where(JobRow.name == job.name).values(state=after.name, **values))
        if after is not job.state:
            await self._say_state(db, job.name, after)
        return await self._read(db, job.name)

    async def _say_state(self, db: AsyncConnection, name: str, state: State) -> None:
        await self._say(db, name, [self._encode_state(state)])

    async def _say(self, db: AsyncConnection, name: str, payloads: Sequence[bytes]) -> None:
        if not payloads:
            return
        last = (await db.execute(select(JobRow.last_sequence).where(JobRow.name == name))).scalar_one()
        now = self._clock()
        rows = [
            {"operation": name, "sequence": last + i, "time": now, "payload": payload}
            for i, payload in enumerate(payloads, start=1)
        ]
        await db.execute(insert(EventRow), rows)
        await db.execute(update(JobRow).where(JobRow.name == name).values(last_sequence=last + len(rows)))

    def _changed(self, job: Job) -> None:
        self.changes += 1
        self._on_change(job.name, job.kind, job.state, self._clock() - job.create_time)
