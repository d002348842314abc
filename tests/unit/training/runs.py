"""Small runs of the loop for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from anneal.kit.records import conversation, to_table
from anneal.training.domain.world import Alone, World
from anneal.training.order import RunOrder
from anneal.training.run import train_run
from tests.fixtures.tiny_model import conversations

SPEC: dict[str, Any] = {
    "method": "lora",
    "context_tokens": 64,
    "rows_per_forward": 2,
    "forwards_per_step": 2,
    "num_epochs": 2.0,
    "learning_rate": 1e-2,
    "eval_every_steps": 2,
    "lora": {"rank": 4, "alpha": 8, "dropout": 0.1},
}


def write_rows(path: Path, messages: list[list[dict[str, str]]]) -> str:
    """Conversations as a Parquet file."""
    pq.write_table(to_table("conversation", [conversation(m, source="test") for m in messages]), path)
    return str(path)


def order(folder: Path, base: Path, **changes: Any) -> RunOrder:
    """A run over 40 conversations, validated on 6."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = conversations(46)
    return RunOrder(
        spec={**SPEC, **changes},
        base_folder=str(base),
        base_name="sha256:" + "0" * 64,
        train_files=[write_rows(folder / "train.parquet", rows[:40])],
        validation_files=[write_rows(folder / "validation.parquet", rows[40:])],
        folder=str(folder / "run"),
        fingerprint="test",
    )


def run(folder: Path, base: Path, *, world: Callable[[], World] = Alone, **changes: Any) -> Path:
    """Do a run; returns its folder."""
    made = order(folder, base, **changes)
    train_run(made, world(), torch.device("cpu"))
    return Path(made.folder)
