"""What the serving pod can be told, beyond what every service can."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from anneal.kit.options import Options
from anneal.kit.settings import ServiceSettings

ENGINE_OPTIONS = (
    "max_adapters",
    "max_sequences",
    "max_batched_tokens",
    "context_length",
    "kv_cache_bytes",
    "dtype",
    "eager",
    "tensor_parallel",
)
"""Options that the engine's own process is given."""


class ServingOptions(Options):
    """Engines and their adapters.

    Attributes:
        max_engines: base models at once; the one idle longest makes room.
        max_adapters: adapters in one engine at once; the one idle longest makes room.
        max_requests: requests in one engine, running and waiting; one more is refused as busy.
        max_sequences: requests computed together.
        max_batched_tokens: tokens computed together.
        context_length: longest sequence in tokens; 0 takes the model's, or as much of it as `kv_cache_bytes` has room
            for.
        kv_cache_bytes: room for keys and values; 0 lets vLLM take what the device has.
        dtype: number format; `auto` is float32 on a CPU and the model's own elsewhere.
        eager: compile nothing; always so on a CPU.
        threads: threads of one computation on a CPU.
        start_s: longest time an engine may take to start.
        adapter_wait_s: longest wait for an adapter's room while all are in use.
        preload: resource names of base models whose engines are started with the service; it is not ready before.
        tensor_parallel: GPUs that one engine is spread over.
    """

    max_engines: int = Field(default=2, ge=1)
    max_adapters: int = Field(default=8, ge=1, le=256)
    max_requests: int = Field(default=256, ge=1)
    max_sequences: int = Field(default=32, ge=1)
    max_batched_tokens: int = Field(default=2048, ge=64)
    context_length: int = Field(default=0, ge=0)
    kv_cache_bytes: int = Field(default=256 << 20, ge=0)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    eager: bool = False
    threads: int = Field(default_factory=lambda: len(os.sched_getaffinity(0)), ge=1)
    start_s: float = Field(default=300, gt=0)
    adapter_wait_s: float = Field(default=30, ge=0)
    preload: tuple[str, ...] = ()
    tensor_parallel: int = Field(default=1, ge=1)

    def of_engine(self, base: Path, digest: str, max_rank: int) -> dict[str, Any]:
        """What `VllmEngine` takes, for one base model.

        Args:
            base: folder of its files.
            digest: its digest.
            max_rank: highest rank of an adapter, which training knows, too.
        """
        chosen = self.model_dump(include=set(ENGINE_OPTIONS))
        return {"base": str(base), "digest": digest, "max_rank": max_rank, **chosen}


class Settings(ServiceSettings):
    """Settings of the serving service."""

    serving: ServingOptions = ServingOptions()
