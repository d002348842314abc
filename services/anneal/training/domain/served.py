"""What serving's engine would refuse, found before anything is trained: by the very check that serving makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anneal.kit.engine.adapters import AdapterFacts, AdapterRefused, TensorFacts, check_adapter
from anneal.kit.engine.models import BaseShape, Device, engine_model, why_unserved
from anneal.training.domain.base_model import ModelShape, head_size_of, open_shape
from anneal.training.domain.errors import BaseUnusable, SpecInvalid
from anneal.training.domain.methods import METHODS
from anneal.training.domain.methods.lora import Lora, linear_layers
from anneal.training.domain.spec import TrainingSpec

_FIELDS = {"rank": "lora.rank", "alpha": "lora.alpha"}
"""Cause of serving's refusal -> field of the spec that it is about; all others are about the targets."""
_BASE = "sha256:" + "0" * 64
"""Stands for the base's digest, which nothing here depends on."""


def check_base(config: Any, device: Device) -> None:
    """Check that the engine computes a base model and takes adapters on it.

    Args:
        config: as transformers reads it.
        device: where the engine computes.

    Raises:
        BaseUnusable: it does not; the fact `cause` says why.
    """
    shape = BaseShape(
        architectures=tuple(config.architectures or ()),
        is_encoder_decoder=bool(getattr(config, "is_encoder_decoder", False)),
        head_size=head_size_of(config),
    )
    found = why_unserved(shape, device)
    if found is not None:
        raise BaseUnusable(f"the base model cannot be served: {found[1]}", cause=found[0])


def check_folder(folder: Path, device: Device) -> None:
    """Check that the engine computes the model in a folder, of which only the configuration is read.

    Raises:
        BaseUnusable: it does not, or no adapter can be put on it; the fact `cause` says why.
    """
    base = open_shape(folder)
    check_base(base.config, device)
    Lora(TrainingSpec()).wrap(base.skeleton())


def check_spec(spec: TrainingSpec, base: ModelShape, *, max_rank: int, device: Device) -> None:
    """Check that serving would load what a training would write, from the base's shape alone.

    Args:
        spec: how it would be trained.
        base: its base model, of which no weight is read.
        max_rank: highest rank of an adapter that the engine has room for.
        device: where the engine computes.

    Raises:
        BaseUnusable: the engine does not compute this base, or no adapter can be put on it.
        SpecInvalid: the engine would refuse the adapter; the fields that it would refuse it for are named.
    """
    check_base(base.config, device)
    method = METHODS[spec.method](spec)
    if not isinstance(method, Lora):
        return
    skeleton = base.skeleton()
    layers = {name: (layer.out_features, layer.in_features) for name, layer in linear_layers(skeleton).items()}
    config, shapes = method.written(method.wrap(skeleton))
    facts = AdapterFacts(
        files=["adapter_config.json", "adapter_model.safetensors"],
        config=config,
        tensors=[TensorFacts(name, shape, finite=True, nonzero=True) for name, shape in shapes.items()],
        base_digest=_BASE,
    )
    try:
        check_adapter(
            "of this training",
            facts,
            base_digest=_BASE,
            base_layers=layers,
            max_rank=max_rank,
            engine_model=engine_model(base.config.architectures[0]),
        )
    except AdapterRefused as refusal:
        field = _FIELDS.get(refusal.facts["cause"], "lora.targets")
        raise SpecInvalid([(field, f"serving would refuse it: {refusal}")]) from refusal
