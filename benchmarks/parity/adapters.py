"""Adapters trained for real, from hardly at all to very strongly, and the bugs that are planted in them.

A bug is written into a copy of the adapter's files, so that it can be served by a stand-in and by the engine itself.
"""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.parity.bases import Chain, fit

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How an adapter is trained."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    steps: int
    learning_rate: float
    share: float
    seed: int

    @classmethod
    def drawn(cls, seed: int) -> Recipe:
        """A recipe drawn from a seed: ranks 4 to 64, scales 0.5 to 4, from two steps to sixty."""
        draw = random.Random(seed)
        rank = draw.choice((4, 8, 16, 32, 64))
        return cls(
            rank=rank,
            alpha=rank * draw.choice((0.5, 1.0, 1.5, 2.0, 4.0)),
            targets=draw.choice((("all-linear",), ("all-linear",), ("o_proj", "down_proj"))),
            steps=draw.choice((2, 4, 8, 15, 30, 60)),
            learning_rate=draw.choice((3e-4, 1e-3, 3e-3, 5e-3)),
            share=draw.choice((0.3, 0.6, 1.0)),
            seed=seed,
        )


def train(base: Path, folder: Path, recipe: Recipe, chain: Chain) -> None:
    """Train an adapter of a base in float32 and save it as PEFT does."""
    torch.manual_seed(recipe.seed)
    targets = "all-linear" if recipe.targets == ("all-linear",) else list(recipe.targets)
    config = LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    fit(model, chain.rows(256, recipe.seed), steps=recipe.steps, learning_rate=recipe.learning_rate)
    model.save_pretrained(folder)
    path = folder / CONFIG  # PEFT leaves the base's folder in it, and transformers would read it again
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "base"}))


Weights = dict[str, Tensor]


def _halve_rank(weights: Weights) -> None:
    """What an engine with too small a room for the rank would keep."""
    for name, weight in weights.items():
        if "lora_A" in name:
            weight[weight.shape[0] // 2 :] = 0


def _layer_of(name: str) -> str:
    return name.split(".layers.")[1].split(".")[0]


def _drop_layer(weights: Weights) -> None:
    layers = sorted({_layer_of(name) for name in weights}, key=int)
    for name, weight in weights.items():
        if _layer_of(name) == layers[len(layers) // 2]:
            weight.zero_()


def _swap_layers(weights: Weights) -> None:
    layers = sorted({_layer_of(name) for name in weights}, key=int)
    first, last = f".layers.{layers[0]}.", f".layers.{layers[-1]}."
    for name in [n for n in weights if first in n]:
        other = name.replace(first, last)
        weights[name], weights[other] = weights[other], weights[name]


def _scale(factor: Callable[[int], float]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / CONFIG
        config = json.loads(path.read_text())
        config["lora_alpha"] *= factor(config["r"])
        path.write_text(json.dumps(config))

    return change


def _weights(change: Callable[[Weights], None]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        weights = {name: weight.clone() for name, weight in load_file(folder / WEIGHTS).items()}
        change(weights)
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})

    return rewrite


BUGS: dict[str, Callable[[Path], None]] = {
    "scale doubled": _scale(lambda _: 2.0),
    "scale halved": _scale(lambda _: 0.5),
    "alpha over the root of the rank": _scale(math.sqrt),
    "half of the rank": _weights(_halve_rank),
    "one layer missing": _weights(_drop_layer),
    "two layers swapped": _weights(_swap_layers),
    "not applied": _scale(lambda _: 0.0),
}
"""Bug -> what it changes in a copy of an adapter's folder."""


def plant(bug: str, adapter: Path, folder: Path) -> Path:
    """Write a copy of an adapter with a bug in it."""
    shutil.copytree(adapter, folder, dirs_exist_ok=True)
    BUGS[bug](folder)
    return folder
