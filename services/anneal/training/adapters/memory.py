"""How much memory this machine, or its accelerator, has left."""

from __future__ import annotations

from pathlib import Path


def available_bytes() -> int | None:
    """Memory of the accelerator where there is one, else of the machine; None when nobody says."""
    import torch

    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        return int(free)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
