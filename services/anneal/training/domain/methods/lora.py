"""Low-rank adaptation: the base stays as it is, small factors beside its linear layers are trained.

Hu et al. 2021, arXiv:2106.09685, as PEFT implements it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from transformers import PreTrainedModel

from anneal.training.domain.errors import BaseUnusable, SpecInvalid
from anneal.training.domain.spec import TrainingSpec

ALL_LINEAR = "all-linear"

_NEVER = re.compile(r"(^|\.)(experts|router|gate|shared_expert_gate|kv_b_proj)(\.|$)")
"""What `all-linear` leaves alone inside the layers: a mixture's experts and what chooses among them, and the projection
of multi-head latent attention that engines fold into others."""


_EXPERT_LAYERS = {"gate_proj", "up_proj", "down_proj", "gate_up_proj", "w1", "w2", "w3"}
"""Names that layers of experts have."""


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
            BaseUnusable: PEFT puts no factors on this architecture.
        """
        options = self._options
        config = LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            target_modules=shortest_names(base, target_layers(base, options.targets)),
            task_type="CAUSAL_LM",
        )
        try:
            return get_peft_model(base, config)
        except (ValueError, NotImplementedError, TypeError) as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise BaseUnusable(
                f"no adapter can be put on {type(base).__name__}: {said}", cause="adapters", method="lora"
            ) from error

    def written(self, model: Any) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
        """What `save` would write of a wrapped model: its configuration, and the shape of each tensor by name."""
        config = model.peft_config["default"].to_dict()
        config["peft_type"], config["target_modules"] = "LORA", sorted(config["target_modules"])
        tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
        return config, {name: tuple(tensor.shape) for name, tensor in tensors.items()}

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


def linear_layers(base: PreTrainedModel) -> dict[str, torch.nn.Linear]:
    """Every linear layer by its name, what reads images and what writes tokens among them."""
    return {name: module for name, module in base.named_modules() if isinstance(module, torch.nn.Linear)}


def target_layers(base: PreTrainedModel, targets: Sequence[str]) -> list[str]:
    """The layers that get factors.

    `all-linear` is every linear layer of the language model that engines serve an adapter on: not its output layer, not
    a mixture's experts and router, and not what reads images or sound, which rows of text never reach. A name means
    the layers of the language model that end in it; only where none does, those outside.

    Raises:
        SpecInvalid: a target names no layer, or one on which no adapter is served.
        BaseUnusable: the model has no layer that `all-linear` means.
    """
    names = list(linear_layers(base))
    prefix = _decoder_prefix(base)
    inside = [name for name in names if name.startswith(prefix) and not _is_output(base, name)]
    if list(targets) == [ALL_LINEAR]:
        found = [name for name in inside if not _NEVER.search(name)]
        found = [name for name in found if name not in _taken_for_experts(base, found)]
        if not found:
            raise BaseUnusable(
                f"{type(base).__name__} has no linear layer that an adapter could change", cause="adapters"
            )
        return found
    chosen: set[str] = set()
    missing = []
    for target in targets:
        hits = _named(inside, target) or _named(names, target)
        chosen.update(hits)
        if not hits:
            missing.append(target)
    if missing:
        raise SpecInvalid([("lora.targets", _no_such_layer(base, missing, inside))])
    found = [name for name in names if name in chosen]
    if outputs := [name for name in found if _is_output(base, name)]:
        raise SpecInvalid([("lora.targets", f"{outputs[0]} writes the tokens, and no adapter on it is served")])
    if experts := sorted({name.rsplit(".", 1)[-1] for name in _taken_for_experts(base, found)}):
        why = f"{', '.join(experts)} would change the base's experts, too, and no adapter on them is served"
        raise SpecInvalid([("lora.targets", why)])
    return found


def shortest_names(base: PreTrainedModel, layers: Sequence[str]) -> list[str]:
    """Names for PEFT that mean these layers and no others: last segments where that is so, whole names else.

    Where a model has a mixture, PEFT takes a bare `down_proj` for its experts' as well.
    """
    chosen = set(layers)
    last = sorted({name.rsplit(".", 1)[-1] for name in layers})
    if _EXPERT_LAYERS & set(last) and any(".experts." in name for name, _ in base.named_parameters()):
        return sorted(chosen)
    hits = {name for name, _ in base.named_modules() for end in last if name == end or name.endswith(f".{end}")}
    return last if hits == chosen else sorted(chosen)


def _taken_for_experts(base: PreTrainedModel, names: Sequence[str]) -> set[str]:
    """The layers that PEFT takes for a mixture's experts by the last part of their names, as in DeepSeek's."""
    config = LoraConfig(r=1, target_modules=list(names))
    try:
        convert_peft_config_for_transformers(config, base, None)
    except ValueError:  # it takes some of them, and not all that belong together
        return {name for name in names if name.rsplit(".", 1)[-1] in _EXPERT_LAYERS}
    return set(names) - set(config.target_modules or ())


def _named(names: Sequence[str], target: str) -> list[str]:
    return [name for name in names if name == target or name.endswith("." + target)]


def _no_such_layer(base: PreTrainedModel, missing: Sequence[str], inside: Sequence[str]) -> str:
    known = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in inside}))
    text = f"the base has no linear layer named {', '.join(missing)}; it has {known}"
    parameters = {name.rsplit(".", 1)[-1] for name, _ in base.named_parameters() if ".experts." in name}
    is_experts = parameters and any(target in parameters | _EXPERT_LAYERS for target in missing)
    return f"{text}, and its experts are no linear layers: no adapter on them is served" if is_experts else text


def _decoder_prefix(base: PreTrainedModel) -> str:
    """Beginning of the names of the language model's parts; empty where the decoder is the whole."""
    decoder = base.get_decoder()
    return next((f"{name}." for name, module in base.named_modules() if module is decoder and name), "")


def _is_output(base: PreTrainedModel, name: str) -> bool:
    output = base.get_output_embeddings()
    return output is not None and base.get_submodule(name) is output


def reached_share(base: PreTrainedModel, targets: Sequence[str]) -> float:
    """Share of the base's weights that lie in the layers that get factors, 0 to 1. Call it before `wrap`.

    Raises:
        SpecInvalid, BaseUnusable: as `target_layers`.
    """
    layers = linear_layers(base)
    total = sum(p.numel() for p in base.parameters())
    reached = sum(layers[name].weight.numel() for name in target_layers(base, targets))
    return reached / total if total else 0.0
