"""The job engine of a service: accepts orders, keeps attempts running, gives up the lost ones, publishes results."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from anneal.kit import logs
from anneal.kit.errors import BackendFault, Refusal
from anneal.kit.jobs import codec, lost
from anneal.kit.jobs.failures import Silent
from anneal.kit.jobs.launcher import Attempt, Ended, Launcher, LaunchFailed
from anneal.kit.jobs.pending import Pending, PendingReason
from anneal.kit.jobs.pending_jobs import PendingJobs
from anneal.kit.jobs.reader import Job
from anneal.kit.jobs.silence import Silence
from anneal.kit.jobs.states import Event, State, away_backoff_s, backoff_s
from anneal.kit.jobs.store import JobStore
from anneal.kit.metrics import Metrics
from anneal.kit.options import JobOptions
from anneal.kit.outages import Outages
from anneal.kit.rpc.status import encode_refusal, internal_status, status_of
from anneal.kit.rpc.waiting import ServiceUnavailable, is_temporary, text_of
from anneal.kit.runtime import JobKind
from anneal.v1 import job_service_pb2 as pb

TICK_S = 0.25
START_LEASE_S = 120.0
COUNT_PAUSE_S = 1.0
COUNT_EVERY_S = 30.0
"""Jobs are counted this often without a change of this server's: others may share its database."""
SILENT_AFTER_S = 5.0
"""A process that has not claimed its work for so long, or sent no heartbeat for twice as long, is shown as silent."""
QUEUE_EVERY_S = 2.0
QUEUE_SHOWN = 500
"""The queue is shown this often, and so many jobs of it."""


class Jobs:
    """Long-running jobs of one server."""

    def __init__(
        self,
        store: JobStore,
        launcher: Launcher,
        metrics: Metrics,
        options: JobOptions,
        *,
        scratch: Path,
        config: Callable[[], Mapping[str, Any]],
        outages: Outages | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Make the engine.

        Args:
            store: where jobs are kept.
            launcher: starts processes.
            metrics: where states are counted.
            options: limits.
            scratch: folder whose subfolders survive the attempts of an operation.
            config: what every job process is told: host, store, addresses, token.
            outages: where it is logged that the database is away.
            chance: random numbers from 0 to 1, for the jitter of the waits between attempts.
        """
        self._outages = outages or Outages()
        self.store = store
        self.options = options
        self.metrics = metrics
        self._launcher = launcher
        self._scratch = scratch
        self._config = config
        self._kinds: dict[str, JobKind] = {}
        self._publishing: set[str] = set()
        self._cancelled: set[str] = set()
        self._cancelling_since: dict[str, float] = {}
        self._pending = PendingJobs(store, metrics)
        self._started: dict[tuple[str, int], float] = {}
        self._queue_shown_at = -QUEUE_EVERY_S
        self._chance = chance
        self._counted_at = -COUNT_EVERY_S
        self._counted_changes = -1
        self._silence = Silence()
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._log = logs.logger("jobs")

    def register(self, kind: JobKind) -> None:
        """Make a kind of job known."""
        self._kinds[kind.name] = kind
        self.metrics.expect_jobs(kind.name)

    def kind(self, name: str) -> JobKind:
        """A kind by its name."""
        return self._kinds[name]

    # -- orders --------------------------------------------------------------------------------------------------

    async def submit(
        self, kind: str, request: Message, *, project: str, request_id: str = ""
    ) -> operations_pb2.Operation:
        """Accept an order and answer at once.

        Args:
            kind: a registered kind.
            request: the order; its body will get exactly this message.
            project: `projects/{project}`, the parent of the operation.
            request_id: the same id within 24 h returns the same operation.

        Raises:
            RequestIdReused: the id was used for other content.
            Invalid: it asks for more than its jobs may have.
        """
        if not await self.knows(project, request_id):
            self.check(kind, request)
        packed = any_pb2.Any()
        packed.Pack(request, deterministic=True)
        job = await self.store.accept(
            project=project,
            kind=kind,
            request=packed.SerializeToString(deterministic=True),
            request_id=request_id,
            max_attempts=self._kinds[kind].max_attempts or self.options.max_attempts,
        )
        self._wake.set()
        return codec.encode_operation(job)

    def check(self, kind: str, request: Message) -> None:
        """Check that an order asks for no more than jobs of its kind may have here.

        Raises:
            Invalid: it does.
        """
        self._launcher.check(self._kinds[kind].demand(request))

    async def knows(self, project: str, request_id: str) -> bool:
        """Whether `submit` has seen this request id.

        An order that comes again gets its first answer and is not checked again: what it was to make may exist by now.
        """
        return bool(request_id) and await self.store.has_request(project, request_id)

    async def cancel(self, name: str) -> None:
        """Ask a job to stop; what its launcher keeps of it goes when it has."""
        if await self.store.ask_cancel(name) in (State.CANCELLING, State.CANCELLED):
            self._cancelled.add(name)
        self._wake.set()

    # -- what the job's process says -----------------------------------------------------------------------------

    async def complete(self, name: str, token: str, result: any_pb2.Any) -> None:
        """Publish a result, then end the job. A refused publication fails the job.

        A publication that another service is away for is not refused: the job's process hands the result over again.

        Raises:
            AttemptFenced: the token is not the living attempt's.
            ServiceUnavailable: the result cannot be published right now; the job goes on.
            Refusal: what the publication refused with.
        """
        job = await self.store.check_token(name, token)
        kind = self._kinds[job.kind]
        if kind.publish is not None:
            try:
                self._publishing.add(name)
                published = await kind.publish(unpack(result), name)
            except Refusal as refusal:
                if refusal.kind.passes:  # the job's process asks again
                    raise ServiceUnavailable(str(refusal), retry_after_s=refusal.retry_after_s) from refusal
                await self.fail(name, token, encode_refusal(refusal), retryable=False, cancelled=False)
                raise
            except grpc.aio.AioRpcError as error:
                if is_temporary(error):
                    raise ServiceUnavailable(text_of(error)) from error
                # A bug of the other service may be mended by its next version; a refusal stays one.
                is_bug = error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
                await self.fail(name, token, status_of(error), retryable=is_bug, cancelled=False)
                raise
            finally:
                self._publishing.discard(name)
            result = any_pb2.Any()
            result.Pack(published)
        await self.store.complete(name, token, result.SerializeToString())
        self._wake.set()
        if kind.succeeded is not None:
            try:
                await kind.succeeded(name)
            except Exception:  # noqa: BLE001 - the job has succeeded, whatever becomes of what it left behind
                self._log.exception("what a job left behind was not removed", operation=name)

    async def fail(self, name: str, token: str, error: Any, *, retryable: bool, cancelled: bool) -> None:
        """End an attempt without a result. What the launcher knows to have broken it outweighs what it says itself.

        Raises:
            AttemptFenced: the token is not the living attempt's.
        """
        job = await self.store.check_token(name, token)
        broken = self._launcher.broken(name, job.attempt) if retryable or cancelled else None
        if broken is not None and await self._lose(job, broken):
            self._wake.set()
            return
        text = error.message or "its process failed and gave no reason"
        away_since = self._away_since(job) if lost.is_away(error) and retryable and not cancelled else 0.0
        if away_since:
            event, last = Event.INTERRUPTED, lost.interrupted(job, text)
        elif cancelled:
            event, last = Event.STOPPED, lost.interrupted(job, text)
        else:
            event, last = Event.LOST if retryable else Event.REFUSED, error
        await self.store.fail(
            name,
            token,
            error=last.SerializeToString(),
            text=text,
            event=event,
            backoff_s=self._backoff_s(job, away_since),
            away_since=away_since,
            events=lost.event(job, text) if event is not Event.REFUSED else (),
        )
        self._wake.set()

    def _away_since(self, job: Job) -> float:
        """Since when attempts fail because another service is away; 0.0 where that is too long to charge nobody.

        An attempt that worked for longer than that begins a new count.
        """
        now, limit_s = self.store._clock(), self.options.away_s
        has_worked = now - job.claim_time >= limit_s
        since = now if has_worked or not job.away_since else job.away_since
        return since if now - since < limit_s else 0.0

    def _backoff_s(self, job: Job, away_since: float = 0.0) -> float:
        base_s, chance = self.options.backoff_s, self._chance()
        if away_since:
            return away_backoff_s(self.store._clock() - away_since, base_s, chance=chance)
        return backoff_s(job.attempt, base_s, chance=chance)

    async def heartbeat(self, name: str, token: str, batch: int, events: list[pb.JobEvent]) -> bool:
        """Store what happened, export what was measured; True when the job was asked to stop.

        Raises:
            AttemptFenced: the token is not the living attempt's.
        """
        progress = next((e.progress for e in reversed(events) if e.HasField("progress")), None)
        cancel, is_new = await self.store.heartbeat(
            name,
            token,
            batch=batch,
            events=[event.SerializeToString() for event in events],
            progress=None if progress is None else progress.SerializeToString(),
            lease_s=self.options.lease_s,
        )
        if is_new:
            kind = name.rsplit("/", 1)[-1].rsplit("-", 1)[0].replace("-", "_")
            for event in events:
                if event.HasField("metric"):
                    m = event.metric
                    self.metrics.job_metric(kind, name, m.name, m.value, m.labels, counter=m.counter)
        return cancel

    # -- supervision ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start supervising; jobs that were running when the server died go on from their checkpoints."""
        await self.store.create_tables()
        await asyncio.to_thread(self._launcher.start)
        for job in await self.store.active(list(self._kinds)):
            if job.state is State.CANCELLING:
                self._cancelled.add(job.name)
            ended = await asyncio.to_thread(self._launcher.inherit, job.name, job.attempt)
            if ended is not None:
                await self._lose(job, ended)
            elif self._launcher.outlives_server:  # nobody heard its heartbeats while there was no server
                await self.store.prolong(job.name, job.attempt, max(START_LEASE_S, self.options.lease_s))
        self._task = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """Stop supervising, and end the processes that do not outlive it; the jobs go on at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.to_thread(self._launcher.stop)

    async def _supervise(self) -> None:
        while True:
            try:
                await self._tick()
            except BackendFault as fault:
                self._outages.away(fault.backend, str(fault), by="jobs")
                await asyncio.sleep(1.0)
            except Exception as error:  # noqa: BLE001 - supervision outlives whatever fails for a while
                if self._outages.away("supervision of jobs", f"{type(error).__name__}: {error}"[:500], by="jobs"):
                    self._log.exception("supervision failed; trying again")
                await asyncio.sleep(1.0)
            else:
                self._outages.back(by="jobs")
            try:
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def _tick(self) -> None:
        kinds = list(self._kinds)
        cancelled = set(self._cancelled)  # before it is read which of them still have an attempt
        active = await self.store.active(kinds)
        self._show(active)
        running = 0
        for job in active:
            running += not await self._look_after(job)
        names = {job.name for job in active}
        self._launcher.reap(names)
        for name in cancelled - names:
            await asyncio.to_thread(self._launcher.discard, name)
            self._cancelled.discard(name)
        self._cancelling_since = {name: since for name, since in self._cancelling_since.items() if name in names}
        self._started = {key: since for key, since in self._started.items() if key[0] in names}
        now = self.store._clock()
        await self._start_queued(kinds, names, running, now)
        await self._count()
        self.metrics.jobs_supervised.set(now)

    async def _start_queued(self, kinds: list[str], active: set[str], running: int, now: float) -> None:
        """Launch as many queued jobs as there is room for, and show what the others wait for."""
        blocked = self._launcher.blocked()
        free = 0 if blocked is not None else max(0, self.options.max_running - running)
        is_shown = time.monotonic() >= self._queue_shown_at + QUEUE_EVERY_S
        waiting = await self.store.waiting(kinds, limit=free + QUEUE_SHOWN if is_shown else max(1, free))
        self.metrics.job_queue_age.set(
            max((now - max(job.create_time, job.not_before) for job in waiting), default=0.0)
        )
        for job in waiting[:free]:
            await self._launch(job)
        if is_shown:
            self._queue_shown_at = time.monotonic()
            places = self.options.max_running
            turn = Pending(PendingReason.TURN, f"{places} of {places} jobs of this service are running")
            for job in waiting[free:]:
                await self._pending.show(job, blocked or turn, now)
            self._pending.export(active | {job.name for job in waiting[free:]})

    def _show(self, active: list[Job]) -> None:
        lease_s = self.options.lease_s
        self.metrics.job_lease.set(lease_s)
        self.metrics.show_running(self._silence.listen(active, self.store._clock(), lease_s))

    async def _look_after(self, job: Job) -> bool:
        """Give an attempt up when its process is gone, its lease ran out or it does not stop; True when it was."""
        ended = self._launcher.ended(job.name, job.attempt)
        if ended is None:
            ended = await self._given_up(job)
            if ended is None:
                return False
            await asyncio.to_thread(self._launcher.kill, job.name)
        return await self._lose(job, ended)

    async def _given_up(self, job: Job) -> Ended | None:
        """Why an attempt whose process has not ended is to be given up; None while it is not."""
        now = self.store._clock()
        pending = None if job.is_claimed else self._launcher.pending(job.name, job.attempt)
        if pending is not None:
            if job.state is State.CANCELLING:
                return Ended(text="it was asked to stop before its process had started")
            return await self._let_wait(job, pending, now)
        silent_s = self._silent_s(job, now)
        if job.lease_until < now:
            known = self._launcher.silent(job.name, job.attempt)
            return known or Ended(text=lost.silence(job, silent_s), failure=Silent)
        if self._does_not_stop(job, now):
            grace_s = self.options.cancel_grace_s
            return Ended(text=f"it did not stop within {grace_s:g} s of being asked to and was ended")
        if silent_s >= SILENT_AFTER_S * (2 if job.is_claimed else 1) and job.state is State.RUNNING:
            known = self._launcher.silent(job.name, job.attempt)
            detail = known.text if known is not None else lost.silent_since(job, now - silent_s)
            await self._pending.show(job, Pending(PendingReason.PROCESS, detail), now)
        else:
            await self._pending.clear(job)
        return None

    async def _let_wait(self, job: Job, pending: Pending, now: float) -> Ended | None:
        """Keep the lease of an attempt that waits, and show what for; how it ends where that takes too long."""
        since = await self._pending.show(job, pending, now)
        limit_s = self._launcher.pending_s
        if limit_s is not None and pending.reason.is_timed and now - since >= limit_s:
            refusal = pending.too_long(limit_s)
            return Ended(text=str(refusal), refusal=refusal)
        if job.lease_until < now + START_LEASE_S / 2:
            await self.store.prolong(job.name, job.attempt, START_LEASE_S)
        return None

    def _silent_s(self, job: Job, now: float) -> float:
        """Seconds since the process of an attempt started, where it has not claimed its work, or sent a heartbeat."""
        if job.is_claimed:
            return max(0.0, self.options.lease_s - (job.lease_until - now))
        return now - self._started.setdefault((job.name, job.attempt), now)

    def _does_not_stop(self, job: Job, now: float) -> bool:
        """Whether a job was asked to stop too long ago. One whose result is being published has as good as ended."""
        if job.state is not State.CANCELLING or job.name in self._publishing:
            return False
        return now - self._cancelling_since.setdefault(job.name, now) >= self.options.cancel_grace_s

    async def _lose(self, job: Job, ended: Ended) -> bool:
        text = f"the job failed {job.failures + 1} times; the last time {ended.text}"
        status = internal_status(text) if ended.failure is None else encode_refusal(ended.failure(text))
        event = Event.LOST
        if ended.refusal is not None and job.state is not State.CANCELLING:
            status, event = encode_refusal(ended.refusal), Event.REFUSED
        elif not ended.charged:
            status, event = lost.interrupted(job, ended.text), Event.INTERRUPTED
        return await self.store.lose(
            job.name,
            job.attempt,
            error=status.SerializeToString(),
            text=ended.text,
            backoff_s=self._backoff_s(job),
            event=event,
            events=lost.event(job, ended.text) if event is not Event.REFUSED else (),
        )

    async def _launch(self, job: Job) -> None:
        launched = await self.store.launch(job.name, START_LEASE_S)
        if launched is None:
            return
        job, claim = launched
        kind = self._kinds[job.kind]
        config = {
            **self._config(),
            "operation": job.name,
            "claim": claim,
            "body": kind.body,
            "request_type": f"{kind.request.__module__}:{kind.request.__name__}",
            "scratch": str(self._scratch / job.name.rsplit("/", 1)[-1]),
            "away_s": self._launcher.away_s,
            "options": dict(kind.options()),
        }
        demand = kind.demand(unpack(any_pb2.Any.FromString(job.request)))
        attempt = Attempt(operation=job.name, attempt=job.attempt, config=config, demand=demand)
        try:
            if self._launcher.binds_to_thread:
                self._launcher.launch(attempt)
            else:
                await asyncio.to_thread(self._launcher.launch, attempt)
        except LaunchFailed as failed:
            await self._lose(job, failed.ended)

    async def _count(self) -> None:
        """Count the whole table when it has changed, but not at every change of a busy server."""
        now, changes = time.monotonic(), self.store.changes
        if now < self._counted_at + (COUNT_EVERY_S if changes == self._counted_changes else COUNT_PAUSE_S):
            return
        self._counted_at, self._counted_changes = now, changes
        counts = {(kind, state): n for kind, state, n in await self.store.counts()}
        for kind in self._kinds:
            for state in State:
                self.metrics.jobs.labels(kind, state.name).set(counts.get((kind, state), 0))


def unpack(packed: any_pb2.Any) -> Message:
    """The message inside an Any, whatever known type it has."""
    descriptor = descriptor_pool.Default().FindMessageTypeByName(packed.TypeName())
    message = message_factory.GetMessageClass(descriptor)()
    packed.Unpack(message)
    return message
