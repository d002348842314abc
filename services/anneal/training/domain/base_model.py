"""Opens a base model's folder: safetensors only, no code of its own."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from anneal.training.domain.errors import BaseUnusable, SpecInvalid
from anneal.training.domain.model_files import INDEX, missing_shards, what_is_missing

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_DTYPES |= {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I8": torch.int8, "U8": torch.uint8}
"""Types of numbers as safetensors names them."""
_SLICE = 1 << 24
"""Numbers that are looked at together when weights are only checked."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A base model's configuration, which says the shape of every weight."""

    folder: Path
    config: Any

    @property
    def text_config(self) -> Any:
        """The settings of the language model, which a model that also sees or hears keeps apart."""
        return text_config_of(self.config)

    @property
    def context_length(self) -> int:
        """Longest context in tokens, as the configuration names it; 0 when it does not."""
        return int(getattr(self.text_config, "max_position_embeddings", 0) or 0)

    def context_tokens(self, wanted: int) -> int:
        """Return the length of a packed row: the one asked for, or the model's context for 0.

        Raises:
            SpecInvalid: more is asked for than the model has.
        """
        if self.context_length and wanted > self.context_length:
            raise SpecInvalid([("max_length", f"the base model's context holds {self.context_length} tokens")])
        return wanted or self.context_length or 2048

    def skeleton(self) -> PreTrainedModel:
        """Return the model's shape without memory for its weights.

        Raises:
            BaseUnusable: it is no model that can be loaded.
        """
        try:
            with torch.device("meta"):
                return AutoModelForCausalLM.from_config(self.config)
        except (OSError, ValueError, RuntimeError, ImportError, KeyError, AttributeError, TypeError) as error:
            raise self._not_loadable(error) from error

    def _not_loadable(self, error: Exception) -> BaseUnusable:
        if type(self.config) not in AutoModelForCausalLM._model_mapping:
            named = ", ".join(self.config.architectures or [self.config.model_type])
            return BaseUnusable(
                f"{named} is no model that transformers opens as a language model (AutoModelForCausalLM); where it "
                "wraps one, import the language model alone",
                cause="architecture",
            )
        return BaseUnusable(f"the base model cannot be loaded: {_first_line(error)}")


@dataclass(frozen=True, slots=True)
class BaseModel(ModelShape):
    """A folder that was looked at: configuration and tokenizer, not yet the weights."""

    tokenizer: PreTrainedTokenizerBase

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
            BaseUnusable: it is no model that can be loaded, or a weight is missing or not a finite number.
        """
        model = self._open(dtype=dtype)
        for name, weight in model.named_parameters():
            check_finite(name, weight)
        return model

    def check_weights(self) -> PreTrainedModel:
        """Check every weight, one at a time, in the memory that the largest of them needs; returns the model's shape.

        Raises:
            BaseUnusable: a file is missing or damaged, or a weight is missing, of another shape, or not finite.
        """
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118 - no mapping
                        check_finite(name, file.get_tensor(name))
            except (SafetensorError, OSError) as error:
                raise BaseUnusable(f"{path.name} is damaged: {_first_line(error)}", file=path.name) from error
        return self._open(device_map="meta")

    def _open(self, **options: Any) -> PreTrainedModel:
        try:
            model, report = AutoModelForCausalLM.from_pretrained(
                self.folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
            )
        except (OSError, ValueError, RuntimeError, ImportError, KeyError, AttributeError, TypeError) as error:
            raise self._not_loadable(error) from error
        _check_missing(report)
        return model


def open_base_model(folder: Path) -> BaseModel:
    """Look at a base model's folder.

    Raises:
        BaseUnusable: there is no configuration, tokenizer or safetensors file, or the model brings code of its own.
    """
    names = {path.name for path in folder.iterdir() if path.is_file()}
    if missing := what_is_missing(names, names):
        raise BaseUnusable(f"the base model's folder: {missing}")
    if INDEX in names:
        absent = missing_shards(names, dict(_json(folder / INDEX).get("weight_map", {})))
        if absent:
            raise BaseUnusable(f"the base model's folder lacks {', '.join(absent[:5])}, which {INDEX} names")
    config = open_config(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise BaseUnusable(f"the base model's folder cannot be read: {_first_line(error)}") from error
    return BaseModel(folder, config, tokenizer)


def open_shape(folder: Path) -> ModelShape:
    """Read no more than a base model's shape; its folder may lack the weights and the tokenizer.

    Raises:
        BaseUnusable: as `open_config`.
    """
    return ModelShape(folder, open_config(folder))


def open_config(folder: Path) -> Any:
    """Read a base model's configuration.

    Raises:
        BaseUnusable: it is none that can be read, or the model brings code of its own.
    """
    if "auto_map" in _json(folder / "config.json"):
        raise BaseUnusable("the base model brings its own code (auto_map), which is never run")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BaseUnusable(f"the base model's folder cannot be read: {_first_line(error)}") from error


def stored_dtype(folder: Path) -> torch.dtype:
    """The type that most of a model's numbers are stored in.

    Raises:
        BaseUnusable: a file is damaged.
    """
    numbers: Counter[str] = Counter()
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - no mapping
                    part = file.get_slice(name)
                    numbers[part.get_dtype()] += math.prod(part.get_shape())
        except (SafetensorError, OSError) as error:
            raise BaseUnusable(f"{path.name} is damaged: {_first_line(error)}", file=path.name) from error
    most = max(sorted(numbers), key=numbers.__getitem__, default="F32")
    return _DTYPES.get(most, torch.float32)


def text_config_of(config: Any) -> Any:
    """The settings of the language model inside a configuration; the configuration itself where there is only one."""
    return config.get_text_config(decoder=True)


def head_size_of(config: Any) -> int | None:
    """Size of an attention head; None where there is no attention, or one without heads of one size."""
    text = text_config_of(config)
    if getattr(text, "kv_lora_rank", None):  # multi-head latent attention has kernels of its own
        return None
    size, heads = getattr(text, "head_dim", None), getattr(text, "num_attention_heads", None)
    if isinstance(size, int):
        return size
    return int(text.hidden_size) // heads if isinstance(heads, int) and heads else None


def _json(path: Path) -> dict[str, Any]:
    """A file's mapping.

    Raises:
        BaseUnusable: it holds none.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BaseUnusable(f"there is no {path.name} that can be read: {_first_line(error)}", file=path.name) from error
    except ValueError as error:
        raise BaseUnusable(f"{path.name} is not JSON: {_first_line(error)}", file=path.name) from error
    if not isinstance(value, dict):
        raise BaseUnusable(f"{path.name} holds no mapping", file=path.name)
    return value


def _check_missing(report: Any) -> None:
    if missing := sorted(report["missing_keys"]):
        raise BaseUnusable(f"the base model lacks {len(missing)} weights, such as {missing[0]}", missing=missing[0])


def check_finite(name: str, weight: torch.Tensor) -> None:
    """Check that every number of a weight is one.

    Raises:
        BaseUnusable: one is infinite or no number.
    """
    if not weight.is_floating_point():
        return
    for some in torch.split(weight.detach().reshape(-1), _SLICE):
        # 8-bit floats know no `isfinite`.
        if not torch.isfinite(some.float() if some.itemsize == 1 else some).all():
            raise BaseUnusable(f"the base model's weight {name} is not finite", weight=name)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
