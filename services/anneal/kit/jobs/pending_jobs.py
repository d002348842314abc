"""Writes what jobs wait for to the database and to the metrics, when it is long enough and has changed."""

from __future__ import annotations

from anneal.kit.jobs import codec
from anneal.kit.jobs.pending import Pending, PendingClock
from anneal.kit.jobs.reader import Job
from anneal.kit.jobs.store import JobStore
from anneal.kit.metrics import Metrics, Waiting


class PendingJobs:
    """What the jobs of one server wait for.

    The database holds the begin of each wait, so that a server that is restarted goes on counting.
    """

    def __init__(self, store: JobStore, metrics: Metrics) -> None:
        self._store, self._metrics = store, metrics
        self._clock = PendingClock()
        self._shown: dict[str, Waiting] = {}

    async def show(self, job: Job, pending: Pending, now: float) -> float:
        """Show what a job waits for, to those who watch it; returns when the wait began, in seconds since the epoch."""
        key = (job.name, job.attempt)
        since = self._clock.since(key, pending, now, stored=(job.pending_reason, job.pending_since))
        if self._clock.is_due(key, pending, now, stored=(job.pending_reason, job.pending_text)):
            event = codec.encode_pending(job, pending)
            await self._store.show_pending(
                job, reason=pending.reason.value, text=pending.text, since=since, event=event
            )
        if self._clock.is_shown(key, now):
            self._shown[job.name] = Waiting(
                job.kind, pending.reason.value, now - since, has_attempt=job.state.has_attempt
            )
        return since

    async def clear(self, job: Job) -> None:
        """Show that a job waits for nothing any more."""
        self._clock.forget((job.name, job.attempt))
        if job.pending_reason:
            await self._store.show_pending(job, reason="", text="", since=0.0, event=codec.encode_pending(job, None))

    def export(self, names: set[str]) -> None:
        """Export what was shown since the last call, and forget every job that is not among these."""
        self._clock.keep(names)
        self._metrics.show_pending(self._shown)
        self._shown = {}
