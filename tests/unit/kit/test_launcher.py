"""What a server knows of the processes that an earlier one has started."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from anneal.kit.jobs.launcher import AWAY_CODE, Attempt, SubprocessLauncher

OPERATION = "projects/p/operations/count-1"


@pytest.fixture
def silent_host() -> Iterator[str]:
    """An address that takes connections and never answers: the process of an attempt waits there."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_what_a_killed_server_left_running_is_ended(tmp_path: Path, silent_host: str) -> None:
    killed, fresh = (SubprocessLauncher(tmp_path) for _ in range(2))
    config = {"host": silent_host, "token": "", "operation": OPERATION, "claim": "c", "away_s": 0}
    killed.launch(Attempt(operation=OPERATION, attempt=1, config=config))
    try:
        left = psutil.Process(json.loads((tmp_path / "count-1" / "attempt-1.pid").read_text())["pid"])
        assert left.is_running()
        ended = fresh.inherit(OPERATION, 1)
        assert ended is not None
        assert "server" in ended.text
        assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
    finally:
        killed.stop()


def test_a_process_whose_server_was_away_charges_nobody(tmp_path: Path) -> None:
    launcher = SubprocessLauncher(tmp_path)
    for code, charged in ((AWAY_CODE, False), (1, True)):
        process = subprocess.Popen(["sh", "-c", f"exit {code}"])
        process.wait()
        launcher._running[OPERATION] = (1, process, tmp_path / "none")
        ended = launcher.ended(OPERATION, 1)
        assert ended is not None
        assert ended.charged is charged


def test_an_attempt_nobody_wrote_down_is_left_to_its_lease(tmp_path: Path) -> None:
    assert SubprocessLauncher(tmp_path).inherit(OPERATION, 1) is None


def test_a_pid_that_is_another_processs_by_now_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        folder = tmp_path / "count-1"
        folder.mkdir()
        (folder / "attempt-1.pid").write_text(json.dumps({"pid": other.pid, "create_time": 1.0}))
        try:
            assert SubprocessLauncher(tmp_path).inherit(OPERATION, 1) is not None
            os.kill(other.pid, 0)
            assert other.poll() is None
        finally:
            other.kill()
