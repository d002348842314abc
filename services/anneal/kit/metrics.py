"""Prometheus metrics of one process. RPC names are those of go-grpc-middleware, which dashboards know."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from anneal.kit.disk import room_of
from anneal.kit.jobs.pending import PendingReason
from anneal.kit.jobs.states import State

_RPC = ("grpc_type", "grpc_service", "grpc_method")
_JOB = ("kind", "operation")
_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

JOB_COUNTERS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "rows": ("anneal_rows_total", "Rows by verdict (kept, removed, quarantined) and reason.", ("verdict", "reason")),
    "tokens": ("anneal_job_tokens_total", "Tokens a job used, by use (train, prompt, completion).", ("use",)),
    "bytes": ("anneal_job_bytes_total", "Bytes a job read.", ()),
    "answers": ("anneal_job_answers_total", "Answers of a model to a job, by outcome.", ("outcome",)),
}
JOB_GAUGES: Mapping[str, tuple[str, str]] = {
    "train_loss": ("anneal_training_loss", "Training loss, nats per token."),
    "validation_loss": ("anneal_training_validation_loss", "Validation loss, nats per token."),
    "tokens_per_second": ("anneal_training_tokens_per_second", "Training speed, tokens per second."),
    "grad_norm": ("anneal_training_grad_norm", "Norm of the gradient before clipping."),
    "learning_rate": ("anneal_training_learning_rate", "Learning rate."),
    "memory_bytes": ("anneal_training_memory_bytes", "Peak memory of the training process."),
}


class Running(NamedTuple):
    """How long a running job has been silent, in seconds.

    Attributes:
        heartbeat_age_s: since its last heartbeat. An attempt that starts is not counted before one could be missing.
        stall_s: since it reported anything: progress, a reading, a line.
    """

    heartbeat_age_s: float
    stall_s: float


class Waiting(NamedTuple):
    """What a job waits for, and for how many seconds.

    Attributes:
        reason: a `PendingReason`.
        has_attempt: an attempt was launched; the others wait for their turn.
    """

    kind: str
    reason: str
    seconds: float
    has_attempt: bool


class Metrics:
    """The metrics every process has, on a registry of its own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        reg = self.registry
        ProcessCollector(registry=reg)
        Info("anneal_build", "The release that runs.", registry=reg).info({"version": _release()})
        self._started = Counter("grpc_server_started_total", "RPCs started on the server.", _RPC, registry=reg)
        self._handled = Counter(
            "grpc_server_handled_total", "RPCs completed on the server.", (*_RPC, "grpc_code"), registry=reg
        )
        self._received = Counter("grpc_server_msg_received_total", "Messages received.", _RPC, registry=reg)
        self._sent = Counter("grpc_server_msg_sent_total", "Messages sent.", _RPC, registry=reg)
        self._seconds = Histogram(
            "grpc_server_handling_seconds", "Time to handle an RPC.", _RPC, registry=reg, buckets=_LATENCY_S
        )
        self._in_flight = Gauge("anneal_rpc_in_flight", "RPCs being handled.", ("grpc_service",), registry=reg)
        self.jobs = Gauge("anneal_jobs", "Jobs by kind and state.", ("kind", "state"), registry=reg)
        self.job_transitions = Counter(
            "anneal_job_transitions_total", "State changes of jobs.", ("kind", "state"), registry=reg
        )
        self.job_seconds = Histogram(
            "anneal_job_seconds",
            "Time from accepting a job to its end.",
            ("kind", "state"),
            registry=reg,
            buckets=(1, 3, 10, 30, 60, 180, 600, 1800, 3600, 14400, 86400),
        )
        self.job_queue_age = Gauge(
            "anneal_job_queue_age_seconds", "How long the oldest job that could start has waited for it.", registry=reg
        )
        self.job_lease = Gauge(
            "anneal_job_lease_seconds", "Time without a heartbeat after which an attempt is given up.", registry=reg
        )
        self.jobs_supervised = Gauge(
            "anneal_jobs_supervised_timestamp_seconds", "When the server last looked after its jobs.", registry=reg
        )
        self._heartbeat_age = Gauge(
            "anneal_job_heartbeat_age_seconds", "Since a running job's last heartbeat.", _JOB, registry=reg
        )
        self._stall = Gauge(
            "anneal_job_stall_seconds", "Since a running job last reported anything.", _JOB, registry=reg
        )
        self._running: set[tuple[str, str]] = set()
        self._pending = Gauge(
            "anneal_jobs_pending", "Jobs that wait for something, by what it is.", ("kind", "reason"), registry=reg
        )
        self._pending_seconds = Gauge(
            "anneal_job_pending_seconds", "Since a launched job waits.", (*_JOB, "reason"), registry=reg
        )
        self._pending_counts: Mapping[tuple[str, str], int] = {}
        self._pending_jobs: set[tuple[str, str, str]] = set()
        self._counters = {
            key: Counter(name, text, ("kind", *labels), registry=reg)
            for key, (name, text, labels) in JOB_COUNTERS.items()
        }
        self._gauges = {key: Gauge(name, text, _JOB, registry=reg) for key, (name, text) in JOB_GAUGES.items()}

    @contextmanager
    def rpc(self, rpc_type: str, service: str, method: str) -> Iterator[RpcRecord]:
        """Count and time one RPC; the code it ended with is set on the record."""
        labels = (rpc_type, service, method)
        record = RpcRecord(self._received.labels(*labels).inc, self._sent.labels(*labels).inc)
        self._started.labels(*labels).inc()
        start = perf_counter()
        with self._in_flight.labels(service).track_inprogress():
            try:
                yield record
            finally:
                self._handled.labels(*labels, record.code).inc()
                self._seconds.labels(*labels).observe(perf_counter() - start)

    def job_metric(
        self, kind: str, operation: str, name: str, value: float, labels: Mapping[str, str], *, counter: bool
    ) -> None:
        """Export what a job measured, when its name is in the tables above; other names live in the job's events."""
        if counter and name in self._counters:
            known = {label: labels.get(label, "") for label in JOB_COUNTERS[name][2]}
            self._counters[name].labels(kind=kind, **known).inc(value)
        elif not counter and name in self._gauges:
            self._gauges[name].labels(kind=kind, operation=operation).set(value)

    def expect_jobs(self, kind: str) -> None:
        """Show a kind of job from zero: a series that begins with its first event hides that one from `increase`."""
        for state in State:
            self.job_transitions.labels(kind, state.name)
            if state.is_final:
                self.job_seconds.labels(kind, state.name)
        for reason in PendingReason:
            self._pending.labels(kind, reason.value)

    def show_running(self, jobs: Mapping[tuple[str, str], Running]) -> None:
        """Show how the running jobs are, by kind and operation, and no others any more."""
        for labels in self._running - jobs.keys():
            self._heartbeat_age.remove(*labels)
            self._stall.remove(*labels)
        for labels, job in jobs.items():
            self._heartbeat_age.labels(*labels).set(job.heartbeat_age_s)
            self._stall.labels(*labels).set(job.stall_s)
        self._running = set(jobs)

    def show_pending(self, jobs: Mapping[str, Waiting]) -> None:
        """Export what jobs wait for, by operation, and remove the series of every other job."""
        counts = Counts((job.kind, job.reason) for job in jobs.values())
        for labels in self._pending_counts.keys() | counts.keys():
            if self._pending_counts.get(labels) != counts.get(labels):
                self._pending.labels(*labels).set(counts[labels])
        self._pending_counts = counts
        launched = {(job.kind, name, job.reason): job.seconds for name, job in jobs.items() if job.has_attempt}
        for one in self._pending_jobs - launched.keys():
            self._pending_seconds.remove(*one)
        for one, seconds in launched.items():
            self._pending_seconds.labels(*one).set(seconds)
        self._pending_jobs = set(launched)

    def forget_job(self, kind: str, operation: str) -> None:
        """Drop a finished job's readings, so that labels do not grow without end."""
        for gauge in self._gauges.values():
            try:
                gauge.remove(kind, operation)
            except KeyError:
                continue


class RpcRecord:
    """What one RPC did: messages both ways, and its code."""

    def __init__(self, received: Callable[[], None], sent: Callable[[], None]) -> None:
        self.received = received
        self.sent = sent
        self.code = "OK"


class DiskSpace(Collector):
    """What is left on the disks of some folders, asked when somebody reads it."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        """Watch these folders, each under a short name; a path would only say where this one machine keeps it."""
        self._folders = folders

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The families, empty."""
        return (
            GaugeMetricFamily("anneal_disk_size_bytes", "Size of the disk that holds a folder.", labels=("folder",)),
            GaugeMetricFamily("anneal_disk_free_bytes", "Free on the disk that holds a folder.", labels=("folder",)),
        )

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The families; a disk that cannot be asked is left out."""
        size, free = self.describe()
        for name, folder in self._folders.items():
            with suppress(OSError):
                room = room_of(folder)
                size.add_metric((name,), room.size)
                free.add_metric((name,), room.free)
        return size, free


def _release() -> str:
    try:
        return version("anneal")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "unknown"
