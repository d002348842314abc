"""Runs every GPU check in a process of its own, or skips it by name: `python -m tests.gpu [check ...]`."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time

CHECKS = {"parity": "tests.gpu.parity"}
"""Check -> module. Each takes `--device` and ends with 0 when all is as it must be."""
PACKAGES = ("torch", "transformers", "peft", "vllm")
LIMIT_S = 480
"""Time for all checks together."""


def what_is_missing(device: str) -> str:
    """Why no check can run here; empty when all can."""
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed"
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        return "no CUDA device (torch.cuda.is_available() is False)"
    if device == "cuda" and not torch.cuda.is_bf16_supported():
        return f"{torch.cuda.get_device_name()} computes no bfloat16"
    return ""


def main() -> int:
    """Run what was asked for within the time, and say what was skipped and why."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checks", nargs="*", help=f"of {', '.join(CHECKS)}; all when none is named")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: the same code in float32, to see that it works"
    )
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="SECONDS", help="time for all checks together")
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.checks) - set(CHECKS)):
        parser.error(f"no such check: {', '.join(unknown)}")
    wanted, failed, until = chosen.checks or list(CHECKS), [], time.monotonic() + chosen.limit
    missing = what_is_missing(chosen.device)
    for check in wanted:
        if missing:
            print(f"gpu-check: skipped: {check}: {missing}")
            continue
        start = time.monotonic()
        command = [sys.executable, "-m", CHECKS[check], "--device", chosen.device]
        process = subprocess.Popen(command, start_new_session=True)
        try:
            code = process.wait(max(1.0, until - start))
            ended = "passed" if code == 0 else f"failed with {code}"
        except subprocess.TimeoutExpired:
            code, ended = 1, f"failed: not done within the {chosen.limit:.0f} s of all checks"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # an engine that it started
            process.wait()
        print(f"gpu-check: {check} {ended} after {time.monotonic() - start:.0f} s", flush=True)
        if code:
            failed.append(check)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
