"""`python -m anneal.kit.tied <parent> <program> <arguments>`: a program that ends with the process that started it.

A `preexec_fn` would ask the kernel for the same, but with one Python forks, and gRPC's handlers then run in the child:
where the parent has a channel or a server they write lines of their own to the child's output, and may end it before
the program starts (https://github.com/grpc/grpc/issues/43055). Without one Python uses `vfork`, which runs no handler.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def tied(command: Sequence[str | Path]) -> list[str]:
    """The command of a child that is sent SIGTERM when the thread that starts it, or this process, ends.

    The process keeps its id: the program takes the place of this module. Nothing happens elsewhere than on Linux.
    """
    return [sys.executable, "-m", "anneal.kit.tied", str(os.getpid()), *map(str, command)]


def die_with_parent(parent: int) -> None:
    """Ask Linux to send this process SIGTERM when its parent dies, and do so at once where it is gone already.

    Args:
        parent: process id of the parent that is meant.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Tie this process to its parent and run the program in its place; exit code 127 says that it cannot be run."""
    parent, program, *arguments = sys.argv[1:]
    die_with_parent(int(parent))
    try:
        os.execvp(program, [program, *arguments])
    except OSError as error:
        sys.stderr.write(f"cannot run {program}: {error.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main()
