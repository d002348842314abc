"""Watching a job through a connection that breaks."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2

from anneal.cli import client as module
from anneal.cli.client import Client
from anneal.kit.errors import Down
from anneal.v1 import job_service_pb2 as jobs

NAME = "projects/p/operations/o"
DONE = jobs.WatchJobResponse(operation=operations_pb2.Operation(name=NAME, done=True))


class Broken(grpc.RpcError):
    """What a lost connection raises."""

    def __init__(self, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


def event(sequence: int) -> jobs.WatchJobResponse:
    return jobs.WatchJobResponse(event=jobs.JobEvent(sequence=sequence))


class Streams:
    """Answers each call with the next script: messages, then an error or a clean end."""

    def __init__(self, *scripts: list[Any]) -> None:
        self._scripts = list(scripts)
        self.asked: list[int] = []

    def __call__(self, request: jobs.WatchJobRequest) -> Iterator[jobs.WatchJobResponse]:
        self.asked.append(request.from_sequence)
        for item in self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]:
            if isinstance(item, Exception):
                raise item
            yield item


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made: list[float] = []
    monkeypatch.setattr("anneal.cli.client.time.sleep", made.append)
    return made


def wait(streams: Streams, seen: list[int]) -> operations_pb2.Operation:
    client = Client("127.0.0.1:1")
    client.__dict__["jobs"] = SimpleNamespace(WatchJob=streams)
    try:
        return client.wait(NAME, lambda one: seen.append(one.sequence))
    finally:
        client.close()


def test_a_job_of_many_breaks_is_watched_to_its_end(pauses: list[float]) -> None:
    breaks = 2 * module.WATCH_TRIES
    streams = Streams(*([event(n), Broken()] for n in range(1, breaks + 1)), [DONE])
    seen: list[int] = []
    assert wait(streams, seen).done
    assert seen == list(range(1, breaks + 1))
    assert streams.asked == list(range(1, breaks + 2))
    assert len(pauses) == breaks


def test_a_stream_that_ends_without_an_answer_is_asked_again_after_a_pause(pauses: list[float]) -> None:
    assert wait(Streams([], [event(1)], [DONE]), []).done
    assert pauses == [module.WATCH_PAUSE_S] * 2


def test_a_server_that_never_answers_is_given_up(pauses: list[float]) -> None:
    streams = Streams([])
    with pytest.raises(Down, match="without saying how it is"):
        wait(streams, [])
    assert len(streams.asked) == module.WATCH_TRIES
    streams = Streams([Broken()])
    with pytest.raises(Broken):
        wait(streams, [])
    assert len(streams.asked) == module.WATCH_TRIES


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(pauses: list[float]) -> None:
    assert wait(Streams([Broken(grpc.StatusCode.RESOURCE_EXHAUSTED)], [DONE]), []).done
    with pytest.raises(Broken):
        wait(Streams([Broken(grpc.StatusCode.NOT_FOUND)]), [])
    assert len(pauses) == 1
