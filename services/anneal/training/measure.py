"""Short measurements of a device: what it multiplies, and what it trains."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from anneal.training.domain.loop import autocast
from anneal.training.domain.packing import IGNORED, collate
from anneal.training.domain.samples import Sample
from anneal.training.domain.spec import TrainingSpec

MAX_PARAMETERS = 50_000_000
"""Largest base whose speed is tried out for a plan: larger ones would take more than a few seconds."""
_STATUS = Path("/proc/self/status")


def seconds(call: Callable[[], Any], device: torch.device, *, repeats: int = 3) -> float:
    """Shortest time of a call in seconds, after one to warm up."""
    call()
    best = float("inf")
    for _ in range(repeats):
        _finish(device)
        start = time.perf_counter()
        call()
        _finish(device)
        best = min(best, time.perf_counter() - start)
    return best


def matmul_flops(device: torch.device, dtype: torch.dtype, *, size: int = 0) -> float:
    """Matrix-product speed in FLOP/s: 2 n^3 over the best time of an n x n product."""
    n = size or (8192 if device.type == "cuda" else 1024)
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return 2 * n**3 / seconds(lambda: a @ b, device, repeats=5)


def tokens_per_second(
    model: Any, spec: TrainingSpec, rows: Sequence[Sequence[Sample]], pad_id: int, device: torch.device
) -> float:
    """Tokens per second of forward and backward on a few packed rows; the model's gradients are thrown away."""
    batch = collate(rows, pad_id=pad_id).to(device)
    model.train()

    def step() -> None:
        with autocast(spec, device):
            logits = model(input_ids=batch.token_ids_RL, position_ids=batch.position_ids_RL, use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1).float(), batch.labels_RL.flatten(), ignore_index=IGNORED)
        torch.autograd.backward(loss)

    taken = seconds(step, device, repeats=1)
    model.zero_grad(set_to_none=True)
    return sum(len(sample) for row in rows for sample in row) / taken


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory this process ever had, in bytes: of the device where it has its own, else of the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    # Not ru_maxrss where it can be helped: on Linux that starts at what the parent had when it started this process.
    told = _STATUS.read_text().partition("VmHWM:")[2].split() if _STATUS.exists() else []
    if told:
        return int(told[0]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
