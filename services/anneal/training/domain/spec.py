"""What a training run is told: plain values, checked before any work."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from anneal.training.domain.errors import SpecInvalid

OVERLONG_POLICIES = ("refuse", "truncate", "truncate_left", "drop")
LEFT_OUT_POLICIES = ("refuse", "warn")
SCHEDULES = ("constant", "linear", "cosine")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraOptions:
    """Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685): W + alpha/rank * B A.

    Attributes:
        rank: inner size of the two factors.
        alpha: numerator of the scale.
        dropout: share of the adapter's inputs dropped while training.
        targets: names of the linear layers to adapt, or the one word `all-linear`.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: tuple[str, ...] = ("all-linear",)

    def violations(self) -> list[tuple[str, str]]:
        """Name each field that is out of range."""
        found = []
        if not 1 <= self.rank <= 512:
            found.append(("lora.rank", "must be 1 to 512"))
        if self.alpha < 1:
            found.append(("lora.alpha", "must be at least 1"))
        if not 0 <= self.dropout < 1:
            found.append(("lora.dropout", "must be at least 0 and below 1"))
        if not self.targets or not all(self.targets):
            found.append(("lora.targets", "must name at least one layer, or all-linear"))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """One training run. Two runs with equal specs, data and base end in equal weights.

    A step consumes `rows_per_forward * forwards_per_step` packed rows of `context_tokens` tokens,
    however many workers share them.

    Attributes:
        method: key of `METHODS`.
        objective: key of `OBJECTIVES`.
        seed: origin of every random choice.
        context_tokens: length of a packed row, and the longest sample.
        overlong: what happens to a longer sample: `refuse`, `truncate` (its end goes), `truncate_left` (its earliest
            turns go; system turn and answer stay) or `drop`.
        left_out: what happens to a row of which the chat template does not render a part: `refuse` or `warn`.
        template_kwargs: variables for the chat template, over those of the base model, as JSON text.
        packed: several samples may share a row; else each has its own.
        max_rows: most rows of data used, chosen by their id; 0 means all.
        num_epochs: passes over the data, when `max_steps` is 0.
        max_steps: optimizer steps; 0 means that `num_epochs` decides.
        rows_per_forward: packed rows in one forward pass.
        forwards_per_step: forward passes accumulated into one optimizer step, over all workers.
        learning_rate: highest learning rate.
        schedule: shape of the decay after warm-up.
        warmup_share: share of the steps spent rising to `learning_rate`.
        final_share: share of `learning_rate` left at the end of a decay.
        weight_decay: AdamW's decay of matrices; vectors are not decayed.
        beta1: AdamW's decay of the first moment.
        beta2: AdamW's decay of the second moment.
        max_grad_norm: gradients are scaled down to this norm.
        eval_every_steps: steps between two validations; 0 means four times an epoch.
        patience: validations without improvement before stopping early; 0 means never.
        min_improvement: how much lower the validation loss must get to count.
        checkpoint_every_steps: steps between two checkpoints; 0 means with every validation.
        precision: `auto` takes bfloat16 where the device computes it, else float32.
        lora: options of the method `lora`.
    """

    method: str = "lora"
    objective: str = "instruction"
    seed: int = 0
    context_tokens: int = 512
    overlong: str = "refuse"
    left_out: str = "refuse"
    template_kwargs: str = ""
    packed: bool = True
    max_rows: int = 0
    num_epochs: float = 1.0
    max_steps: int = 0
    rows_per_forward: int = 4
    forwards_per_step: int = 2
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup_share: float = 0.05
    final_share: float = 0.1
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.95
    max_grad_norm: float = 1.0
    eval_every_steps: int = 0
    patience: int = 0
    min_improvement: float = 0.0
    checkpoint_every_steps: int = 0
    precision: str = "auto"
    lora: LoraOptions = field(default_factory=LoraOptions)

    def __post_init__(self) -> None:
        """Refuse an impossible order.

        Raises:
            SpecInvalid: one or more fields are out of range; all are named.
        """
        found = [(name, text) for name, text, wrong in self._rules() if wrong]
        found += self.lora.violations()
        if found:
            raise SpecInvalid(found)

    def _rules(self) -> list[tuple[str, str, bool]]:
        return [
            ("context_tokens", "must be at least 8", self.context_tokens < 8),
            ("overlong", f"must be one of {', '.join(OVERLONG_POLICIES)}", self.overlong not in OVERLONG_POLICIES),
            ("left_out", f"must be one of {', '.join(LEFT_OUT_POLICIES)}", self.left_out not in LEFT_OUT_POLICIES),
            ("template_kwargs", "must be a JSON object", not _is_object(self.template_kwargs)),
            ("max_rows", "must be 0 or more", self.max_rows < 0),
            ("num_epochs", "must be above 0", not 0 < self.num_epochs < math.inf),
            ("max_steps", "must be 0 or more", self.max_steps < 0),
            ("rows_per_forward", "must be at least 1", self.rows_per_forward < 1),
            ("forwards_per_step", "must be at least 1", self.forwards_per_step < 1),
            ("learning_rate", "must be a finite number above 0", not 0 < self.learning_rate < math.inf),
            ("schedule", f"must be one of {', '.join(SCHEDULES)}", self.schedule not in SCHEDULES),
            ("warmup_share", "must be 0 to 1", not 0 <= self.warmup_share <= 1),
            ("final_share", "must be 0 to 1", not 0 <= self.final_share <= 1),
            ("weight_decay", "must be 0 or more", not 0 <= self.weight_decay < math.inf),
            ("beta1", "must be at least 0 and below 1", not 0 <= self.beta1 < 1),
            ("beta2", "must be at least 0 and below 1", not 0 <= self.beta2 < 1),
            ("max_grad_norm", "must be above 0", not 0 < self.max_grad_norm < math.inf),
            ("eval_every_steps", "must be 0 or more", self.eval_every_steps < 0),
            ("patience", "must be 0 or more", self.patience < 0),
            ("min_improvement", "must be 0 or more", not 0 <= self.min_improvement < math.inf),
            ("checkpoint_every_steps", "must be 0 or more", self.checkpoint_every_steps < 0),
            ("precision", f"must be one of {', '.join(PRECISIONS)}", self.precision not in PRECISIONS),
            ("seed", "must be 0 to 2**31 - 1", not 0 <= self.seed < 2**31),
        ]

    def as_mapping(self) -> dict[str, Any]:
        """Return plain values, the inverse of `from_mapping`."""
        values = dataclasses.asdict(self)
        values["lora"]["targets"] = list(self.lora.targets)
        return values

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> TrainingSpec:
        """Build a spec from plain values.

        Raises:
            SpecInvalid: a field is unknown, has another type, or is out of range.
        """
        plain = {name: value for name, value in values.items() if name != "lora"}
        lora = dict(values.get("lora") or {})
        found = _misfits(cls, plain, "", skip="lora") + _misfits(LoraOptions, lora, "lora.", skip="targets")
        targets = lora.get("targets", ["all-linear"])
        if isinstance(targets, str) or not all(isinstance(t, str) for t in targets):
            found.append(("lora.targets", "must be a list of names"))
        if found:
            raise SpecInvalid(found)
        lora["targets"] = tuple(targets)
        return cls(lora=LoraOptions(**lora), **plain)


def _is_object(text: str) -> bool:
    try:
        return not text or isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _misfits(cls: type, values: Mapping[str, Any], prefix: str, *, skip: str) -> list[tuple[str, str]]:
    """Name each value whose field does not exist or has another type; an int stands for a float."""
    hints = get_type_hints(cls)
    found = []
    for name, value in values.items():
        wanted = hints.get(name)
        if wanted is None:
            found.append((prefix + name, "is not a known field"))
        elif name != skip and not _fits(value, wanted):
            found.append((prefix + name, f"must be {wanted.__name__}"))
    return found


def _fits(value: Any, wanted: type) -> bool:
    if isinstance(value, bool) or wanted is bool:
        return isinstance(value, bool) and wanted is bool
    return isinstance(value, (int, float) if wanted is float else wanted)
