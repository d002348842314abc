"""Reads what the checks need from the files of adapters and base models; nothing in them is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from anneal.kit.engine.adapters import AdapterFacts, TensorFacts
from anneal.kit.engine.models import EngineModel, engine_model

MAX_ADAPTER_BYTES = 4 << 30
"""Larger files are no adapter of a model that this service is for, and would only fill the memory."""

_EXPONENTS = {
    "F64": ("<u8", 0x7FF << 52),
    "F32": ("<u4", 0xFF << 23),
    "F16": ("<u2", 0x1F << 10),
    "BF16": ("<u2", 0xFF << 7),
}
"""The unsigned integer of the same width, and the bits of the exponent: all set means infinite or not a number."""


def read_adapter(folder: Path) -> AdapterFacts:
    """What the files of an adapter hold."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    config = _read_json(folder / "adapter_config.json")
    return AdapterFacts(
        files, config, _read_tensors(folder / "adapter_model.safetensors"), _base_digest(folder, config)
    )


def read_base_layers(folder: Path) -> dict[str, tuple[int, int]]:
    """Linear layers of a base model: module path -> (outputs, inputs), from the headers of its safetensors."""
    layers = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safetensors.safe_open(str(path), framework="np") as file:
                for name in file.keys():  # noqa: SIM118 - it is no mapping
                    shape = file.get_slice(name).get_shape()
                    if name.endswith(".weight") and len(shape) == 2:
                        layers[name.removesuffix(".weight")] = (int(shape[0]), int(shape[1]))
        except (OSError, safetensors.SafetensorError):
            return {}
    return layers


def read_tensor_names(folder: Path) -> list[str]:
    """Names of the modules that have a matrix, or a stack of them as fused experts are; from the headers alone."""
    names = []
    for path in sorted(folder.glob("*.safetensors")):
        with safetensors.safe_open(str(path), framework="np") as file:
            names += [name for name in file.keys() if len(file.get_slice(name).get_shape()) > 1]  # noqa: SIM118
    return [name.removesuffix(".weight") for name in names]


def read_engine_model(folder: Path) -> EngineModel | None:
    """What the engine knows of a base model's architecture; None when it knows none of that name."""
    architectures = (_read_json(folder / "config.json") or {}).get("architectures")
    return engine_model(architectures[0]) if isinstance(architectures, list) and architectures else None


def _base_digest(folder: Path, config: dict[str, Any] | None) -> str | None:
    """The digest that Anneal's training writes where PEFT keeps the base's name, or beside it in `anneal.json`."""
    for value in (
        (config or {}).get("base_model_name_or_path"),
        (_read_json(folder / "anneal.json") or {}).get("base_model_digest"),
    ):
        if isinstance(value, str) and value.startswith("sha256:"):
            return value
    return None


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _read_tensors(path: Path) -> list[TensorFacts] | None:
    try:
        if path.stat().st_size > MAX_ADAPTER_BYTES:
            return None
        tensors = safetensors.deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except (OSError, safetensors.SafetensorError):
        return None
    return [_facts(name, tensor) for name, tensor in tensors]


def _facts(name: str, tensor: dict[str, Any]) -> TensorFacts:
    shape = tuple(tensor["shape"])
    if tensor["dtype"] not in _EXPONENTS:  # integers and 8-bit floats: no format that LoRA factors are kept in
        return TensorFacts(name, shape, finite=False, nonzero=False)
    kind, exponent = _EXPONENTS[tensor["dtype"]]
    bits = np.frombuffer(bytes(tensor["data"]), dtype=kind)
    magnitude = bits & np.array((1 << (bits.itemsize * 8 - 1)) - 1, dtype=kind)
    return TensorFacts(name, shape, finite=bool((magnitude < exponent).all()), nonzero=bool(magnitude.any()))
