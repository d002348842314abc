"""Checkpoints in a folder: whole or absent, whatever moment the process is killed at.

Everything is safetensors and JSON, nothing is pickled.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from anneal.training.domain.checkpoint import Progress
from anneal.training.domain.errors import CheckpointForeign

NUM_KEPT = 2
"""Checkpoints kept: the newest, and the one before it."""


class CheckpointFolder:
    """The checkpoints of one run in one folder."""

    def __init__(self, folder: Path, *, fingerprint: str) -> None:
        """Use `folder`; `fingerprint` names spec, data and base, and guards against going on from another run's."""
        self._folder = folder
        self._fingerprint = fingerprint
        folder.mkdir(parents=True, exist_ok=True)

    def save(
        self, progress: Progress, weights: dict[str, Tensor], optimizer: Optimizer, best: dict[str, Tensor] | None
    ) -> None:
        """Write one checkpoint: into a hidden folder, flushed to the disk, then renamed."""
        target = self._folder / f"step-{progress.step:08d}"
        partial = self._folder / f".partial-{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        save_file({k: v.contiguous() for k, v in weights.items()}, partial / "weights.safetensors")
        save_file(_optimizer_tensors(optimizer, list(weights)), partial / "optimizer.safetensors")
        if best is not None:
            save_file({k: v.contiguous() for k, v in best.items()}, partial / "best.safetensors")
        state = {"fingerprint": self._fingerprint, **{f: getattr(progress, f) for f in Progress.__slots__}}
        (partial / "state.json").write_text(json.dumps(state))
        for path in partial.iterdir():
            flush(path)
        flush(partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        flush(self._folder)
        for old in self._all()[:-NUM_KEPT]:
            shutil.rmtree(old)

    def load(
        self, weights: dict[str, Tensor], optimizer: Optimizer
    ) -> tuple[Progress, dict[str, Tensor] | None] | None:
        """Read the newest checkpoint into the live tensors; what a killed process left half-written is swept away.

        Raises:
            CheckpointForeign: it was made by another spec, dataset or base.
        """
        for partial in self._folder.glob(".partial-*"):
            shutil.rmtree(partial, ignore_errors=True)
        found = self._all()
        if not found:
            return None
        state = json.loads((found[-1] / "state.json").read_text())
        if state["fingerprint"] != self._fingerprint:
            raise CheckpointForeign(
                "the checkpoint was made by another spec, dataset or base; start in an empty folder",
                made_by=state["fingerprint"],
                asked_by=self._fingerprint,
            )
        device = str(next(iter(weights.values())).device)
        saved = load_file(found[-1] / "weights.safetensors", device=device)
        with torch.no_grad():
            for name, tensor in weights.items():
                tensor.copy_(saved[name])
        _restore_optimizer(optimizer, list(weights), load_file(found[-1] / "optimizer.safetensors"))
        best_path = found[-1] / "best.safetensors"
        best = load_file(best_path, device=device) if best_path.exists() else None
        return Progress(**{f: state[f] for f in Progress.__slots__}), best

    def _all(self) -> list[Path]:
        return sorted(self._folder.glob("step-*"))


def _optimizer_tensors(optimizer: Optimizer, names: list[str]) -> dict[str, Tensor]:
    """Flatten the optimizer's state to `parameter/slot`; its parameters are numbered in the order of `names`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{names[number]}/{slot}": tensor.contiguous()
        for number, slots in state.items()
        for slot, tensor in slots.items()
    }


def _restore_optimizer(optimizer: Optimizer, names: list[str], tensors: dict[str, Tensor]) -> None:
    numbers = {name: number for number, name in enumerate(names)}
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, slot = key.rsplit("/", 1)
        state.setdefault(numbers[name], {})[slot] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def flush(path: Path) -> None:
    """Write a file or a folder's list of names from the system's memory to its disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
