"""`anneal up` and `anneal demo` as processes: refused in one line, stopped by any signal, nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from anneal.cli.client import Client
from anneal.cli.up import LOCK_FILE, state_of
from anneal.v1 import ingestion_service_pb2 as ingestion
from anneal.v1 import job_service_pb2 as jobs

pytestmark = pytest.mark.timeout(180)

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "python-docs"
START_S = 90.0
STOP_S = 40.0
HEARD = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Ignored by whoever runs the tests, as under nohup, SIGHUP would be ignored by the command, too."""


@contextmanager
def started(*words: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running `anneal`; killed at the end where it still runs."""
    path = os.pathsep.join(part for part in sys.path if part)
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [sys.executable, "-c", HEARD, "-m", "anneal.cli", *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONPATH": path, **environment},
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def up(folder: Path, *, grpc: int = 0, http: int = 0) -> list[str]:
    return ["up", "--data-dir", str(folder), "--grpc-port", str(grpc), "--http-port", str(http)]


def until(is_so: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.05)


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def refused(words: list[str], log: Path, **environment: str) -> str:
    """What a command that does not start says; it must be one line and exit code 1."""
    with started(*words, log=log, **environment) as process:
        assert process.wait(START_S) == 1
    lines = log.read_text().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_ctrl_c_before_it_is_ready(tmp_path: Path) -> None:
    folder, log = tmp_path / "data", tmp_path / "log"
    with started(*up(folder), log=log) as process:
        until((folder / LOCK_FILE).exists, START_S)
        children = family(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_S) == 0
    assert "ready" not in log.read_text()
    assert "Traceback" not in log.read_text()
    assert not any(child.is_running() for child in children)
    assert state_of(folder) is None


def test_a_second_one_is_refused_and_ctrl_c_ends_a_running_job(tmp_path: Path) -> None:
    folder, log = tmp_path / "data", tmp_path / "log"
    with started(*up(folder), log=log) as process:
        until(lambda: state_of(folder), START_S)
        line = refused(up(folder), tmp_path / "second")
        assert line.startswith(f"anneal: `anneal up` already runs on {folder} (pid {process.pid}, ")
        state = state_of(folder)
        assert state is not None
        client = Client(state["grpc"], project="p")
        upload = client.upload(EXAMPLE / "python-3.11-docs.tar.xz", "docs.tar.xz").name
        order = ingestion.IngestDocumentsRequest(parent=client.parent, dataset_id="docs", uploads=[upload])
        name = client.ingestion.IngestDocuments(order).name
        for message in client.jobs.WatchJob(jobs.WatchJobRequest(name=name)):
            assert not message.HasField("operation"), "too late"
            if message.event.HasField("progress"):
                break
        client.close()
        children = family(process)
        assert any("anneal.kit.jobs.run" in child.cmdline() for child in children)
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_S) == 0
    assert not any(child.is_running() for child in children)
    assert "Traceback" not in log.read_text()


def test_a_taken_port_gets_one_line(tmp_path: Path, taken: int) -> None:
    folder, log = tmp_path / "data", tmp_path / "log"
    there = f"anneal: cannot listen on 127.0.0.1:{taken}: the port is taken or the address is not ours"
    assert refused(up(folder, grpc=taken), log) == there
    assert refused(up(folder, http=taken), log) == there
    line = refused(up(folder), log, ANNEAL_METRICS__PORT=str(taken))
    assert line == f"anneal: cannot serve metrics on 127.0.0.1:{taken}: Address already in use"
    assert state_of(folder) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_demo_that_is_told_to_stop_takes_its_system_along(tmp_path: Path, number: signal.Signals) -> None:
    folder, log = tmp_path / "data", tmp_path / "log"
    words = ["demo", "--data-dir", str(folder), "--report", str(tmp_path / "report")]
    with started(*words, "--recipe", str(EXAMPLE / "recipe.yaml"), log=log) as process:
        until(lambda: state_of(folder), START_S)
        children = family(process)
        assert children
        process.send_signal(number)
        assert process.wait(STOP_S) == (-number if number is signal.SIGKILL else 130)
        # Nobody waits for the system of a killed one; it ends by itself.
        until(lambda: not any(child.is_running() for child in children), STOP_S)
    assert state_of(folder) is None
