"""How a base model is changed: one file per method, one line in `METHODS`."""

from __future__ import annotations

from anneal.training.domain.methods.base import Method, base_dtype
from anneal.training.domain.methods.full import Full
from anneal.training.domain.methods.lora import Lora

METHODS: dict[str, type[Method]] = {"full": Full, "lora": Lora}

__all__ = ["METHODS", "Full", "Lora", "Method", "base_dtype"]
