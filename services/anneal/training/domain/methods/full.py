"""Every parameter is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from anneal.training.domain.spec import TrainingSpec


class Full:
    """Trains the whole model; the result is a model of its own."""

    makes: ClassVar[str] = "model"

    def __init__(self, spec: TrainingSpec) -> None:
        """Take the run's order, of which nothing matters here."""
        del spec

    def wrap(self, base: PreTrainedModel) -> Any:
        """Return the base itself, all of it trainable."""
        base.requires_grad_(True)
        return base

    def save(self, model: Any, folder: Path, *, base_name: str) -> None:
        """Write weights and configuration."""
        del base_name
        model.config.use_cache = True
        model.save_pretrained(folder, safe_serialization=True)

    def load(self, base: PreTrainedModel, folder: Path, dtype: torch.dtype) -> Any:
        """Read the model from its folder; the base is not needed."""
        del base
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)
