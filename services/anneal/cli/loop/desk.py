"""What every stage of the loop works with: the client, the recipe, the report, and how steps are timed and told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import grpc

from anneal.cli.client import Client, Done
from anneal.cli.failures import explain
from anneal.cli.loop.recipe import Loaded, Recipe
from anneal.cli.output import Output, Watcher
from anneal.cli.report import model
from anneal.v1 import job_service_pb2 as jobs


class LoopFailed(Exception):
    """The loop cannot go on; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Given to every stage; the report is filled on the way."""

    client: Client
    loaded: Loaded
    output: Output
    report: model.Report

    @property
    def recipe(self) -> Recipe:
        """The recipe as it was written."""
        return self.loaded.recipe

    @property
    def parent(self) -> str:
        """`projects/{project}`."""
        return self.client.parent

    @contextmanager
    def step(self, name: str) -> Iterator[model.Step]:
        """Time a step, print its line, and keep it in the report, also when it fails."""
        step = model.Step(name=name, seconds=0.0)
        start = perf_counter()
        try:
            yield step
        except BaseException as error:
            step.state, step.detail = "failed", explain(error)
            raise
        finally:
            step.seconds = perf_counter() - start
            self.report.steps.append(step)
            mark = {"done": "done", "skipped": "unchanged, skipped", "failed": "FAILED"}[step.state]
            self.output.line(f"{name:<28} {step.seconds:7.1f} s  {mark:<18} {step.detail}")

    def job(self, step: model.Step, call: Callable[[Any], Any], request: Any, kind: str, result: Any) -> Ran:
        """Run a long-running operation, or find it done, and note it in the step."""
        with self.output.job(step.name) as watcher:
            done = self.client.run(call, request, kind, result, watcher)
        if done.skipped:
            step.state = "skipped"
        step.operation = done.operation.name
        return Ran(done, watcher)


class Ran:
    """A job that was run, or found done."""

    def __init__(self, done: Done, watcher: Watcher) -> None:
        self._done, self._watcher = done, watcher

    def metrics(self, client: Client) -> list[jobs.Metric]:
        """What the job measured; for a job found done, its events are read again."""
        if self._done.skipped:
            watched: list[jobs.Metric] = []
            client.wait(self._done.operation.name, lambda e: watched.append(e.metric) if e.HasField("metric") else None)
            return watched
        return self._watcher.metrics

    def seconds(self) -> float | None:
        """How long the job ran."""
        metadata = jobs.JobMetadata()
        self._done.operation.metadata.Unpack(metadata)
        if not metadata.HasField("end_time") or not metadata.HasField("start_time"):
            return None
        return (metadata.end_time.ToMicroseconds() - metadata.start_time.ToMicroseconds()) / 1e6


def only(error: grpc.RpcError, code: grpc.StatusCode) -> None:
    """Go on only when the call failed with this code."""
    failed: Any = error
    if failed.code() is not code:
        raise error
