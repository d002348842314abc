"""How much memory a process has used; imports nothing but the standard library, for peers run it, too."""

from __future__ import annotations

from pathlib import Path


def peak_mib() -> float:
    """Most memory this process has had resident since it was started, in MiB.

    Not `getrusage`: what that says begins with the peak of the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
