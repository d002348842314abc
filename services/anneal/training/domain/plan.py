"""What a training run will cost, without running it: tokens, steps, memory, time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anneal.training.domain.base_model import BaseModel, text_config_of
from anneal.training.domain.methods import METHODS, Lora
from anneal.training.domain.methods.lora import reached_share
from anneal.training.domain.order import Order
from anneal.training.domain.packing import collate
from anneal.training.domain.prepare import Prepared
from anneal.training.domain.samples import Sample
from anneal.training.domain.spec import TrainingSpec

_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""What configurations call the number of a mixture's experts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The cost of one run; unknown values are None. Field meanings as in `anneal.v1.TrainingPlan`."""

    num_rows: int
    num_samples: int
    reached_share: float
    tokens_per_epoch: int
    targets_per_epoch: int
    num_too_long: int
    packing_efficiency: float
    mask_coverage: float
    num_steps: int
    num_trainable: int
    num_parameters: int
    memory_bytes: int
    duration_s: float | None
    warnings: tuple[str, ...]
    sample: str


def make_plan(
    spec: TrainingSpec, base: BaseModel, train: Prepared, validation: Prepared, *, tokens_per_s: float | None
) -> Plan:
    """Work out the plan.

    Args:
        spec: the order, with `context_tokens` settled.
        base: the base model; only its shape is used.
        train: the training split.
        validation: the validation split; may be empty.
        tokens_per_s: tokens that one worker trains on per second, padding not counted; None when unknown.
    """
    method, skeleton = METHODS[spec.method](spec), base.skeleton()
    reached = reached_share(skeleton, spec.lora.targets) if isinstance(method, Lora) else 1.0
    model = method.wrap(skeleton)
    parameters = {n: (p.numel(), p.requires_grad) for n, p in model.named_parameters()}
    num_parameters = sum(n for n, _ in parameters.values())
    num_trainable = sum(n for n, trains in parameters.values() if trains)
    order = Order(spec, len(train.rows))
    num_tokens = train.samples.num_tokens * order.num_steps / order.steps_per_epoch
    return Plan(
        num_rows=len({sample.row_id for sample in train.samples.kept}),
        num_samples=len(train.samples.kept),
        reached_share=reached,
        tokens_per_epoch=train.samples.num_tokens,
        targets_per_epoch=train.samples.num_targets,
        num_too_long=sum(train.samples.counts[k] for k in ("truncated", "dropped_too_long", "dropped_nothing_left")),
        packing_efficiency=train.packing_efficiency,
        mask_coverage=train.mask_coverage,
        num_steps=order.num_steps,
        num_trainable=num_trainable,
        num_parameters=num_parameters,
        memory_bytes=memory_bytes(spec, base.config, num_parameters, num_trainable),
        duration_s=num_tokens / tokens_per_s if tokens_per_s else None,
        warnings=(*_reach_warnings(base.config, reached), *_warnings(spec, train, validation, order)),
        sample=show_sample(base, train.samples.kept[0]),
    )


def memory_bytes(spec: TrainingSpec, config: Any, num_parameters: int, num_trainable: int) -> int:
    """Estimate the peak memory of one worker in bytes.

    Weights, gradients and AdamW's two moments in float32; activations after Korthikanti et al. 2022
    (arXiv:2205.05198, section 4.1) without the attention matrix, which the fused kernels never hold; logits three
    times (themselves, their softmax, its gradient).
    """
    width = 2 if spec.precision == "bfloat16" else 4
    weights = num_parameters * (4 if spec.method == "full" else width) + num_trainable * 12
    tokens = spec.rows_per_forward * spec.context_tokens
    text = text_config_of(config)
    hidden = int(getattr(text, "hidden_size", 0))
    inner = int(getattr(text, "intermediate_size", 0) or 4 * hidden)
    layers = int(getattr(text, "num_hidden_layers", 0))
    activations = layers * tokens * (12 * hidden + 4 * inner) * width
    logits = 3 * tokens * int(getattr(text, "vocab_size", 0)) * 4
    return weights + activations + logits


def _reach_warnings(config: Any, reached: float) -> list[str]:
    if reached >= 0.5:
        return []
    text = text_config_of(config)
    experts = next((n for key in _EXPERT_COUNTS if (n := getattr(text, key, None))), 0)
    why = f"the base is a mixture of {experts} experts, on which no adapter is served: " if experts else ""
    return [f"{why}the layers that the adapter changes hold {reached:.0%} of the base's weights"]


def _warnings(spec: TrainingSpec, train: Prepared, validation: Prepared, order: Order) -> list[str]:
    found = []
    if not validation.rows:
        found.append("there is no validation split: nothing tells when to stop, and the last weights are kept")
        if spec.patience:
            found.append("patience has no effect without a validation split")
    if train.mask_coverage < 0.02:
        found.append(f"the loss covers only {train.mask_coverage:.1%} of the tokens")
    if train.packing_efficiency < 0.7 and len(train.rows) > 1:
        found.append(f"only {train.packing_efficiency:.0%} of the positions hold a token")
    if order.num_steps < 20:
        found.append(f"only {order.num_steps} steps will be taken")
    counts: Mapping[str, int] = train.samples.counts
    shortened = "earliest turns" if spec.overlong == "truncate_left" else "end"
    for what, text in (
        ("truncated", f"lose their {shortened}"),
        ("dropped_too_long", "are left out as too long"),
        ("dropped_nothing_left", "are left out: nothing to learn is left of them within max_length"),
    ):
        if counts.get(what):
            found.append(f"{counts[what]} of {counts['samples']} samples {text}")
    if counts.get("empty_rows"):
        found.append(f"{counts['empty_rows']} rows are empty, and nothing is learned from them")
    for what, number in sorted(counts.items()):
        if what.startswith("left_out:"):
            found.append(f"the chat template does not render {what.removeprefix('left_out:')} of {number} rows")
    return found


def show_sample(base: BaseModel, sample: Sample) -> str:
    """Return a sample as text, what the loss covers between `⟦` and `⟧`."""
    batch = collate([[sample]], pad_id=base.pad_id)
    covered = [False, *(label >= 0 for label in batch.labels_RL[0].tolist()[: len(sample) - 1])]
    text, start = "", 0
    for i in range(1, len(sample) + 1):
        if i == len(sample) or covered[i] != covered[start]:
            piece = base.tokenizer.decode(sample.token_ids[start:i])
            text += f"⟦{piece}⟧" if covered[start] else piece
            start = i
    return text
