"""A child that ends with the process that started it, and is not disturbed by what runs there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from anneal.kit.tied import tied

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")

PATH = os.pathsep.join(part for part in sys.path if part)
PARENT = """
import subprocess, sys, time
from anneal.kit.tied import tied
print(subprocess.Popen(tied([sys.executable, "-c", "import time; time.sleep(60)"])).pid, flush=True)
time.sleep(60)
"""


def test_it_keeps_its_id_and_its_exit_code() -> None:
    command = tied([sys.executable, "-c", "import os, sys; print(os.getpid()); sys.exit(7)"])
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": PATH}) as process:
        assert process.stdout is not None
        assert int(process.stdout.read()) == process.pid
        assert process.wait(30) == 7


def test_it_ends_when_its_parent_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": PATH}
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.send_signal(signal.SIGKILL)
        parent.wait(30)
    _, alive = psutil.wait_procs([child], timeout=10)
    assert alive == []


def test_it_ends_at_once_when_its_parent_is_gone_already() -> None:
    other = tied(["sleep", "60"])
    other[other.index(str(os.getpid()))] = "-1"  # no process has this id: as if the parent had ended in between
    began = time.monotonic()
    code = subprocess.run(other, env={**os.environ, "PYTHONPATH": PATH}, check=False).returncode
    assert code == -signal.SIGTERM
    assert time.monotonic() - began < 30


def test_a_program_that_is_not_there_is_one_line_and_exit_code_127(tmp_path: Path) -> None:
    missing = tmp_path / "no-such-program"
    result = subprocess.run(
        tied([missing]), env={**os.environ, "PYTHONPATH": PATH}, check=False, capture_output=True, text=True
    )
    assert result.returncode == 127
    assert result.stderr == f"cannot run {missing}: No such file or directory\n"
