"""Low-rank adaptation: the base stays as it is, small factors beside its linear layers are trained.

Hu et al. 2021, arXiv:2106.09685, as PEFT implements it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from anneal.training.domain.errors import SpecInvalid
from anneal.training.domain.spec import TrainingSpec


class Lora:
    """Trains an adapter that serving can put on the base per request."""

    makes: ClassVar[str] = "adapter"

    def __init__(self, spec: TrainingSpec) -> None:
        """Keep rank, scale and targets."""
        self._options = spec.lora

    def wrap(self, base: PreTrainedModel) -> Any:
        """Return the base with fresh factors; the product starts at zero, so the first loss is the base's.

        Raises:
            SpecInvalid: a target names no layer of the base.
        """
        options = self._options
        targets: str | list[str] = list(options.targets)
        if targets == ["all-linear"]:
            targets = "all-linear"
        config = LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )
        missing = [t for t in targets if not _names_a_layer(base, t)] if isinstance(targets, list) else []
        if missing:
            raise SpecInvalid([("lora.targets", f"the base has no layer named {', '.join(missing)}")])
        return get_peft_model(base, config)

    def save(self, model: Any, folder: Path, *, base_name: str) -> None:
        """Write `adapter_model.safetensors` and `adapter_config.json`."""
        model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text())
        config["base_model_name_or_path"] = base_name
        config["target_modules"] = sorted(config["target_modules"])
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    def load(self, base: PreTrainedModel, folder: Path, dtype: torch.dtype) -> Any:
        """Put the saved factors on a fresh base."""
        del dtype
        return PeftModel.from_pretrained(base, str(folder), use_safetensors=True, local_files_only=True)


def _names_a_layer(base: PreTrainedModel, target: str) -> bool:
    return any(
        isinstance(module, torch.nn.Linear) and (name == target or name.endswith("." + target))
        for name, module in base.named_modules()
    )
