"""Which base models the engine computes: the table that `make engine-models` reads out of vLLM, and its rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class EngineModel:
    """What the engine knows of one architecture.

    Attributes:
        serves_adapters: it takes LoRA adapters.
        multimodal: its class takes images, sound or video besides text.
        prefixes: beginning of a module's name in files -> the engine's.
    """

    serves_adapters: bool
    multimodal: bool
    prefixes: Mapping[str, str]

    def name_of(self, module: str) -> str:
        """A module's name as the engine has it; names of old and new layouts of the files become the same."""
        return next((new + module[len(old) :] for old, new in self.prefixes.items() if module.startswith(old)), module)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseShape:
    """What decides whether the engine computes a base model.

    Attributes:
        architectures: classes that its config names.
        is_encoder_decoder: it has an encoder besides its decoder.
        head_size: size of an attention head; None where there is none, or another attention than the usual.
    """

    architectures: tuple[str, ...]
    is_encoder_decoder: bool
    head_size: int | None


def engine_version() -> str:
    """The engine that the table was read from, such as `vllm 0.32.0`."""
    return str(_table()["engine"])


def engine_model(architecture: str) -> EngineModel | None:
    """What the engine knows of an architecture; None when it has no such text generator."""
    known = _table()["architectures"].get(architecture)
    if known is None:
        return None
    return EngineModel(known["adapters"], known.get("multimodal", False), known.get("prefixes", {}))


def why_unserved(base: BaseShape, device: Device) -> tuple[str, str] | None:
    """Why the engine cannot serve a base model, as (cause, text); None when it can.

    Args:
        base: what its config says.
        device: where the engine computes.
    """
    named = ", ".join(base.architectures)
    if base.is_encoder_decoder:
        return "encoder_decoder", f"{named or 'it'} is an encoder-decoder, and only decoders are trained and served"
    if not base.architectures:
        return "architecture", "its config.json names no architecture (`architectures`), so no engine can load it"
    known = engine_model(base.architectures[0])
    if known is None:
        return "architecture", f"{engine_version()}, which serves it, has no text generator {named}"
    if not known.serves_adapters:
        return "adapters", f"{engine_version()}, which serves it, takes no adapters on {named}"
    sizes = _table()["cpu_head_sizes"]
    if device == "cpu" and base.head_size is not None and base.head_size not in sizes:
        listed = ", ".join(map(str, sizes))
        return "head_size", (
            f"its attention heads have {base.head_size} numbers each, and on a CPU the engine, {engine_version()}, "
            f"computes {listed}; where the engines have GPUs, set engine.device to cuda"
        )
    return None


@cache
def _table() -> dict[str, Any]:
    text = files(__package__).joinpath("models.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
