"""The contract's messages as the domain's values, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anneal.kit import names
from anneal.kit.errors import Invalid
from anneal.training.domain.errors import SpecInvalid
from anneal.training.domain.spec import LEFT_OUT_POLICIES, OVERLONG_POLICIES, PRECISIONS, SCHEDULES, TrainingSpec
from anneal.training.errors import PROTO_FIELDS
from anneal.v1 import training_service_pb2 as pb

METHODS = ("full", "lora")
"""Keys of the domain's `METHODS`, whose import would bring torch into the server's start; a test compares them."""
LEARNING_RATES: Mapping[str, float] = {"lora": 2e-4, "full": 2e-5}
MAX_NUMBER = 1_000_000
"""Highest of any count in an order: above it is a mistake of units, not a wish."""

_OBJECTIVES = {
    pb.OBJECTIVE_UNSPECIFIED: "instruction",
    pb.OBJECTIVE_INSTRUCTION: "instruction",
    pb.OBJECTIVE_TEXT: "text",
}


def decode_spec(spec: pb.TrainingSpec, *, max_workers: int) -> dict[str, Any]:
    """An order's spec as `TrainingSpec.as_mapping` gives it; `context_tokens` 0 is the base model's context.

    Raises:
        Invalid: any field is impossible; all of them are named.
    """
    found = _contract_violations(spec, max_workers)
    if found:
        raise _invalid(found)
    workers = spec.workers or 1
    mapping: dict[str, Any] = {
        "method": spec.method,
        "objective": _OBJECTIVES[spec.objective],
        "seed": spec.seed,
        "context_tokens": spec.max_length,
        "overlong": spec.too_long or "refuse",
        "left_out": spec.left_out or "refuse",
        "template_kwargs": spec.template_kwargs_json,
        "packed": not spec.unpacked,
        "max_rows": spec.max_rows,
        "num_epochs": spec.epochs or 1.0,
        "max_steps": spec.max_steps,
        "rows_per_forward": spec.batch_size or 1,
        # The domain counts the forward passes of all workers together.
        "forwards_per_step": (spec.accumulation_steps or 1) * workers,
        "learning_rate": spec.learning_rate or LEARNING_RATES[spec.method],
        "schedule": spec.scheduler or "cosine",
        "warmup_share": spec.warmup_ratio,
        "weight_decay": spec.weight_decay,
        "max_grad_norm": spec.max_grad_norm or 1.0,
        "eval_every_steps": spec.evaluation_steps,
        "patience": spec.patience,
        "checkpoint_every_steps": spec.checkpoint_steps,
        "precision": spec.dtype or "auto",
        "lora": _decode_lora(spec.lora),
    }
    try:
        checked = TrainingSpec.from_mapping({**mapping, "context_tokens": mapping["context_tokens"] or 2048})
    except SpecInvalid as error:
        raise _invalid([(PROTO_FIELDS.get(field, field), text) for field, text in error.violations]) from None
    return {**checked.as_mapping(), "context_tokens": spec.max_length}


def _decode_lora(lora: pb.LoraSpec) -> dict[str, Any]:
    rank = lora.rank or 8
    return {
        "rank": rank,
        "alpha": int(lora.alpha) or 2 * rank,
        "dropout": lora.dropout,
        "targets": list(lora.target_modules) or ["all-linear"],
    }


def _contract_violations(spec: pb.TrainingSpec, max_workers: int) -> list[tuple[str, str]]:
    """What is wrong in the contract's own terms, which the domain cannot see."""
    choices = (
        ("method", METHODS, False),
        ("scheduler", SCHEDULES, True),
        ("dtype", [p for p in PRECISIONS if p != "auto"], True),
        ("too_long", OVERLONG_POLICIES, True),
        ("left_out", LEFT_OUT_POLICIES, True),
    )
    found = [
        (field, f"{getattr(spec, field)!r} is none of {', '.join(sorted(known))}")
        for field, known, may_be_empty in choices
        if getattr(spec, field) not in known and not (may_be_empty and not getattr(spec, field))
    ]
    if spec.objective not in _OBJECTIVES:
        found.append(("objective", f"{spec.objective} is no objective"))
    if not 0 <= spec.workers <= max_workers:
        found.append(("workers", f"{spec.workers} is not 0 to {max_workers}, the most that are allowed here"))
    alpha = spec.lora.alpha
    if not (0 <= alpha <= MAX_NUMBER and alpha == int(alpha)):
        found.append(("lora.alpha", f"{alpha:g} is not a whole number of at least 0"))
    for field in ("max_length", "batch_size", "accumulation_steps"):
        if not 0 <= getattr(spec, field) <= MAX_NUMBER:
            found.append((field, f"{getattr(spec, field)} is not 0 to {MAX_NUMBER}"))
    if 0 < spec.max_length < 8:
        found.append(("max_length", "must be at least 8"))
    return found


def _invalid(found: list[tuple[str, str]]) -> Invalid:
    named = [(f"spec.{field}", text) for field, text in found]
    return Invalid("; ".join(f"{field}: {text}" for field, text in named), violations=named)


def check_sources(request: pb.PlanTrainingRequest | pb.CreateTrainingJobRequest) -> None:
    """Check the names in an order.

    Raises:
        Invalid: one is malformed, of another project, or named twice, or there is no dataset.
    """
    names.parse(request.parent, "project", "parent")
    names.parse(request.base_model, "model", "base_model")
    _check_project(request.base_model, request.parent, "base_model")
    if not request.dataset_versions:
        raise Invalid.field("dataset_versions", "names no dataset version")
    for index, name in enumerate(request.dataset_versions):
        field = f"dataset_versions[{index}]"
        names.parse(name, "dataset_version", field)
        _check_project(name, request.parent, field)
        if name in request.dataset_versions[:index]:
            raise Invalid.field(field, f"{name} is named twice")


def _check_project(name: str, parent: str, field: str) -> None:
    if names.project_of(name) != parent:
        raise Invalid.field(field, f"{name} is not in {parent}")
