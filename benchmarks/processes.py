"""Processes that are measured: started with a log, waited for, ended; one that does not get ready says why."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

START_S = 240.0
LAST_LINES = 30
ANNOUNCED = "bench-process "
"""What a process begins the line with that says it is ready."""


class BenchFailed(Exception):
    """A process that is measured did not get ready; the text holds its last words."""


@contextlib.contextmanager
def started(command: list[str], log: Path, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own, ended with everything it started."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=output, text=True, start_new_session=True, **more
        )
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1 if "vllm" in " ".join(command) else 30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def announced(process: subprocess.Popen[str], log: Path) -> dict[str, Any]:
    """What a process says on its standard output in one marked line.

    Raises:
        BenchFailed: it ended without one.
    """
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(ANNOUNCED):
            found: dict[str, Any] = json.loads(line.removeprefix(ANNOUNCED))
            return found
    raise BenchFailed(f"the process `{_named(process)}` ended before it was ready:\n{last_words(log)}")


def last_words(log: Path) -> str:
    """The end of what a process wrote into its log, indented."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    return "\n".join(f"    {line}" for line in lines) or "    it wrote nothing"


def _named(process: subprocess.Popen[str]) -> str:
    words = process.args if isinstance(process.args, list) else [process.args]
    return " ".join(str(word) for word in words[1:4])


async def wait_for_http(address: str, process: subprocess.Popen[str], log: Path) -> None:
    """Wait until a server answers `/health`.

    Raises:
        BenchFailed: its process ended, or it took too long.
    """
    host, port = address.split(":")
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchFailed(f"the process `{_named(process)}` ended before it was ready:\n{last_words(log)}")
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            status = (await reader.readline()).split()[1:2]
            writer.close()
            if status == [b"200"]:
                return
        await asyncio.sleep(0.5)
    raise BenchFailed(f"the process `{_named(process)}` was not ready within {START_S:.0f} s:\n{last_words(log)}")


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
