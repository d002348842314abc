"""Whether a background process runs: it holds a lock, which the system frees at its end, and has a state file."""

from __future__ import annotations

import fcntl
import json
import time
from pathlib import Path
from typing import IO, Any

import psutil

TRIES = 20
PAUSE_S = 0.05


def state_of(state: Path, lock: Path) -> dict[str, Any] | None:
    """What the running process wrote into its state file; None when none runs.

    The pid in it alone says nothing, since another process may have it by now. The lock alone may be that of a process
    that starts, and has not replaced the file of one that was killed.
    """
    try:
        with lock.open() as file:
            if _is_free(file):
                return None
        value: dict[str, Any] = json.loads(state.read_text())
    except (OSError, ValueError):
        return None
    return value if psutil.pid_exists(value.get("pid", -1)) else None


def take(lock: IO[str]) -> bool:
    """Lock a file for as long as it is open; False where another process has it locked."""
    for _ in range(TRIES):  # `state_of` holds it for a moment
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(PAUSE_S)
        else:
            return True
    return False


def _is_free(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
