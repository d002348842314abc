"""Opens a base model's folder: safetensors only, no code of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from anneal.training.domain.errors import BaseUnusable, SpecInvalid

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A folder that was looked at: configuration and tokenizer, not yet the weights."""

    folder: Path
    config: Any
    tokenizer: PreTrainedTokenizerBase

    @property
    def context_length(self) -> int:
        """Longest context in tokens, as the configuration names it; 0 when it does not."""
        return int(getattr(self.config, "max_position_embeddings", 0) or 0)

    @property
    def pad_id(self) -> int:
        """Token to pad with; padding is never attended to nor learned, so any will do."""
        for token_id in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if isinstance(token_id, int):
                return token_id
        return 0

    def load(self, dtype: torch.dtype) -> PreTrainedModel:
        """Read the weights.

        Raises:
            BaseUnusable: a weight is missing, left over, or not a finite number.
        """
        model, report = AutoModelForCausalLM.from_pretrained(
            self.folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        missing = sorted(report["missing_keys"])
        if missing:
            raise BaseUnusable(f"the base model lacks {len(missing)} weights, such as {missing[0]}", missing=missing[0])
        for name, weight in model.named_parameters():
            if not torch.isfinite(weight).all():
                raise BaseUnusable(f"the base model's weight {name} is not finite", weight=name)
        return model

    def skeleton(self) -> PreTrainedModel:
        """Return the model's shape without memory for its weights."""
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(self.config)

    def context_tokens(self, wanted: int) -> int:
        """Return the length of a packed row: the one asked for, or the model's context for 0.

        Raises:
            SpecInvalid: more is asked for than the model has.
        """
        if self.context_length and wanted > self.context_length:
            raise SpecInvalid([("max_length", f"the base model's context holds {self.context_length} tokens")])
        return wanted or self.context_length or 2048


def open_base_model(folder: Path) -> BaseModel:
    """Look at a base model's folder.

    Raises:
        BaseUnusable: there is no configuration, tokenizer or safetensors file, or the model brings code of its own.
    """
    if not (folder / "config.json").is_file():
        raise BaseUnusable("the base model's folder has no config.json")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
        held = f"only {', '.join(pickles)}: pickled weights are never loaded" if pickles else "no weights at all"
        raise BaseUnusable(f"the base model's folder has no safetensors file but {held}")
    if "auto_map" in json.loads((folder / "config.json").read_text()):
        raise BaseUnusable("the base model brings its own code (auto_map), which is never run")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise BaseUnusable(f"the base model's folder cannot be read: {_first_line(error)}") from error
    return BaseModel(folder, config, tokenizer)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
