"""One adapter: what is expected of it, what stand-ins answer, and how far each planted bug is away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from anneal.training.domain.agreement import (
    Agreement,
    Compared,
    Tolerance,
    disagreements,
    is_too_weak,
    measure_agreement,
    tolerance_of,
)
from anneal.training.domain.base_model import BaseModel
from anneal.training.domain.expectations import DTYPES, add_logprobs, hold_adapter
from benchmarks.parity.adapters import BUGS, plant
from benchmarks.parity.bases import PROMPT
from benchmarks.parity.standins import STAND_INS, StandIn, serve

PROMPT_BUGS = ("one token of the prompt", "another template")


@dataclass(frozen=True, slots=True)
class Measured:
    """One comparison: an adapter served in some way, with or without a bug."""

    adapter: str
    dtype: str
    way: str
    bug: str
    agreement: Agreement

    @property
    def tolerance(self) -> Tolerance:
        """What the certificate would allow."""
        return tolerance_of(self.agreement, self.dtype)

    @property
    def distance(self) -> float:
        """The largest of the measures, in tolerances."""
        return distance(self.agreement, self.tolerance)

    @property
    def is_refused(self) -> bool:
        """Whether the certificate would say that serving answers otherwise."""
        return bool(disagreements(self.agreement, self.tolerance))

    @property
    def is_too_weak(self) -> bool:
        """Whether the adapter's effect would be too small for a certificate."""
        return is_too_weak(self.agreement)

    def as_mapping(self) -> dict[str, Any]:
        """As plain values."""
        return {
            **asdict(self),
            "tolerance": asdict(self.tolerance),
            "distance": self.distance,
            "refused": self.is_refused,
            "too_weak": self.is_too_weak,
        }


def distance(agreement: Agreement, tolerance: Tolerance) -> float:
    """How many tolerances away the farthest measure is."""
    return max(
        agreement.largest / tolerance.largest,
        agreement.rms / tolerance.rms,
        abs(agreement.effect_difference) / tolerance.effect,
    )


def open_bare(folder: Path) -> BaseModel:
    """A base model's folder without a tokenizer."""
    return BaseModel(folder, AutoConfig.from_pretrained(folder), None)


def expect(
    base: Path, adapter: Path, rows: Sequence[Sequence[int]], dtypes: Sequence[str], device: str = "cpu"
) -> list[dict[str, Any]]:
    """Expectations of an adapter, as training computes them."""
    made: list[dict[str, Any]] = [
        {"row_id": str(i), "messages": None, "tools": None, "token_ids": list(row)} for i, row in enumerate(rows)
    ]
    for expected in made:
        expected["targets"] = list(range(PROMPT, len(expected["token_ids"])))
    for dtype in dict.fromkeys(["float32", *dtypes]):
        add_logprobs(made, open_bare(base), adapter, dtype, torch.device(device))
    return made


def agree(expectations: Sequence[dict[str, Any]], served: Sequence[Sequence[float]], dtype: str) -> Agreement:
    """How far served logprobs of the tokens after the first are from the expected ones."""
    tokens = []
    for expected, said in zip(expectations, served, strict=True):
        logprobs, again = expected["logprobs"], expected.get("logprobs_again", {}).get(dtype)
        tokens += [
            Compared(
                expected=logprobs[dtype][i - 1],
                again=None if again is None else again[i - 1],
                served=said[i - 1],
                adapter=logprobs["float32"][i - 1],
                base=expected["base_logprobs"][i - 1],
            )
            for i in expected["targets"]
        ]
    return measure_agreement(tokens)


def open_served(base: Path, adapter: Path, dtype: str) -> nn.Module:
    """The model that a stand-in computes with."""
    weights = AutoModelForCausalLM.from_pretrained(base, dtype=DTYPES[dtype])
    return hold_adapter(weights, str(adapter), DTYPES[dtype])


@torch.no_grad()
def quantise(model: nn.Module, *, group: int = 32) -> None:
    """Round the weights of linear layers to 4 bits, in groups of numbers along their inputs with a scale each."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.weight.shape[1] % group == 0:
            grouped = module.weight.float().reshape(-1, group)
            scale = grouped.abs().amax(1, keepdim=True).clamp(min=1e-9) / 7
            module.weight.copy_(((grouped / scale).round() * scale).reshape(module.weight.shape))


def measure_good(
    name: str, base: Path, adapter: Path, expectations: Sequence[dict[str, Any]], dtype: str, ways: Sequence[str]
) -> list[Measured]:
    """The adapter without a bug, served in several ways."""
    model, rows = open_served(base, adapter, dtype), [e["token_ids"] for e in expectations]
    return [
        Measured(name, dtype, way, "", agree(expectations, serve(model, rows, STAND_INS[way]), dtype)) for way in ways
    ]


def measure_bugs(
    name: str,
    base: Path,
    adapter: Path,
    other_base: Path,
    expectations: Sequence[dict[str, Any]],
    dtype: str,
    way: str,
    folder: Path,
) -> list[Measured]:
    """The adapter with each bug, served in one way; a bug of the prompt claims the ids that were asked for."""
    rows = [e["token_ids"] for e in expectations]
    stand_in = STAND_INS[way]
    served = {}
    for bug in BUGS:
        model = open_served(base, plant(bug, adapter, folder / bug.replace(" ", "-")), dtype)
        served[bug] = serve(model, rows, stand_in)
    served["another base"] = serve(open_served(other_base, adapter, dtype), rows, stand_in)
    model = open_served(base, adapter, dtype)
    served.update(_other_prompts(model, rows, stand_in))
    quantise(model)
    served["base in 4 bits"] = serve(model, rows, stand_in)
    return [Measured(name, dtype, way, bug, agree(expectations, said, dtype)) for bug, said in served.items()]


def _other_prompts(model: nn.Module, rows: Sequence[Sequence[int]], way: StandIn) -> dict[str, list[list[float]]]:
    """Logprobs of the rows after other prompts than they were asked with."""
    at = PROMPT - 1
    changed = [[*row[:at], 3 if row[at] != 3 else 4, *row[at + 1 :]] for row in rows]
    longer = [[5, 6, 7, 8, *row] for row in rows]
    return {
        "one token of the prompt": serve(model, changed, way),
        "another template": [said[4:] for said in serve(model, longer, way)],
    }
