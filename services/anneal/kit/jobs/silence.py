"""How long running jobs have been silent, for whoever watches over the service."""

from __future__ import annotations

from collections.abc import Iterable

from anneal.kit.jobs.reader import Job
from anneal.kit.metrics import Running


class Silence:
    """Remembers when each running job last reported something.

    It reads that from the jobs as they are stored, so that servers which share a database all see it; of a job that
    was running before this server looked, the time counts from its first look.
    """

    def __init__(self) -> None:
        self._heard: dict[str, tuple[int, float]] = {}

    def listen(self, jobs: Iterable[Job], now: float, lease_s: float) -> dict[tuple[str, str], Running]:
        """How the running jobs are, by kind and operation.

        Args:
            jobs: those that have an attempt.
            now: seconds since the epoch.
            lease_s: what a heartbeat extends the lease to.
        """
        heard: dict[str, tuple[int, float]] = {}
        found = {}
        for job in jobs:
            last = self._heard.get(job.name)
            heard[job.name] = last if last is not None and last[0] == job.last_sequence else (job.last_sequence, now)
            found[job.kind, job.name] = Running(
                heartbeat_age_s=max(0.0, lease_s - (job.lease_until - now)), stall_s=now - heard[job.name][1]
            )
        self._heard = heard
        return found
