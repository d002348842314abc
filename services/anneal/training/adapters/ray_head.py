"""`python -m anneal.training.adapters.ray_head <parent> <home> <arguments>`: a Ray head that ends with its parent.

It asks Linux for SIGTERM at its parent's death and keeps `ray start --block` as its child, which ends every process of
the runtime when it ends itself, and whose reaper does so even after a SIGKILL.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from anneal.kit.tied import die_with_parent, tied

GRACE_S = 4
"""Whole seconds that Ray gets to end by itself; on a busy machine it would take many more."""


def main() -> int:
    """Run Ray until it ends, or until this process is told to end; leave a file that says so."""
    parent, home, *arguments = sys.argv[1:]
    process = subprocess.Popen(tied([sys.executable, "-m", "ray.scripts.scripts", "start", *arguments]))

    def pass_on(number: int, _frame: FrameType | None) -> None:
        process.send_signal(number)
        signal.alarm(GRACE_S)

    def insist(_number: int, _frame: FrameType | None) -> None:
        process.kill()  # its reaper ends the rest

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGALRM, insist)
    die_with_parent(int(parent))
    code = process.wait()
    (Path(home) / "ended").touch()
    return code


if __name__ == "__main__":
    sys.exit(main())
