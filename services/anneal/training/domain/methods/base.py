"""The contract of a training method."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from transformers import PreTrainedModel

from anneal.training.domain.spec import TrainingSpec


class Method(Protocol):
    """Makes the trainable model, saves what it learned, and loads it again."""

    makes: ClassVar[str]
    """What comes out: `adapter` or `model`."""

    def __init__(self, spec: TrainingSpec) -> None: ...

    def wrap(self, base: PreTrainedModel) -> Any:
        """Return the model to train; parameters that need no gradient are frozen."""
        ...

    def save(self, model: Any, folder: Path, *, base_name: str) -> None:
        """Write what was learned as safetensors with its configuration, naming the base and no path."""
        ...

    def load(self, base: PreTrainedModel, folder: Path, dtype: torch.dtype) -> Any:
        """Read what `save` wrote, on top of a fresh base."""
        ...


def base_dtype(spec: TrainingSpec) -> torch.dtype:
    """Type the base is loaded in. Weights that are trained stay in float32, whatever is computed in."""
    return torch.bfloat16 if spec.precision == "bfloat16" and spec.method != "full" else torch.float32
