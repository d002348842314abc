"""The processor of this machine: its name, and the instruction sets that decide how fast it multiplies.

Standard library only: the training bench imports it where no other part of the kit is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
MATRIX_FLAGS = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "bf16",
    "sve",
)
"""Flags of x86 and Arm that torch's, oneDNN's and vLLM's kernels choose by, as `/proc/cpuinfo` spells them."""


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor as `/proc/cpuinfo` describes it.

    Attributes:
        name: the model's name; `unknown` where the file says none.
        flags: those of `MATRIX_FLAGS` that it has, in that order.
    """

    name: str
    flags: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.flags) or 'no known vector instructions'})"


def processor(cpuinfo: Path = CPUINFO) -> Processor:
    """Read the processor's name and flags; both are empty or unknown where the file is not there."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Processor("unknown", ())
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    named = fields.get("model name") or fields.get("cpu model") or "unknown"
    has = set((fields.get("flags") or fields.get("features") or "").split())
    return Processor(named, tuple(flag for flag in MATRIX_FLAGS if flag in has))
