"""What must hold before a version becomes visible."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anneal.kit.errors import Invalid
from anneal.registry.domain.errors import (
    BaseModelMismatch,
    BenchmarkEmpty,
    ManifestMissing,
    ParityMissing,
    TargetMismatch,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """A certificate that an adapter answers in serving as it did in training; differences in nats."""

    passed: bool
    sample_count: int
    token_count: int
    token_ids_equal: bool
    max_logprob_difference: float
    tolerance: float
    dtype: str
    rms_logprob_difference: float | None = None
    rms_tolerance: float | None = None
    effect_difference: float | None = None
    effect_tolerance: float | None = None
    effect_resolution: float | None = None


MAX_TOLERANCES = {"float32": (0.01, 0.01), "bfloat16": (5.0, 0.5), "float16": (1.0, 0.1)}
"""Tolerances of one token and of the root mean square, in nats, above which a certificate proves nothing in a number
format; training's own are well below, and its settings may raise them so far."""
MAX_EFFECT_TOLERANCE = 0.1
"""Tolerance of the effect above which an adapter that is applied with half of its scale could pass."""


def check_parity(parity: Parity | None, adapter: str) -> None:
    """Check that the certificate is there, passed, and says so with reason.

    Raises:
        ParityMissing: it does not prove that serving agrees with training.
    """
    if parity is None:
        fault = "there is no parity certificate"
    elif not parity.passed:
        fault = "its parity certificate did not pass"
    elif parity.sample_count < 1 or parity.token_count < 1:
        fault = "its parity certificate compared nothing"
    elif not parity.token_ids_equal:
        fault = "training and serving rendered other token ids"
    elif not (math.isfinite(parity.tolerance) and 0 <= parity.max_logprob_difference <= parity.tolerance):
        fault = f"logprobs differ by {parity.max_logprob_difference} nats, {parity.tolerance} are allowed"
    elif parity.dtype not in MAX_TOLERANCES:
        fault = f"its parity certificate is in {parity.dtype or 'no number format'}, not in {', '.join(MAX_TOLERANCES)}"
    else:
        fault = _fault_of_measures(parity)
    if not fault:
        return
    raise ParityMissing(f"{adapter} cannot be published: {fault}", adapter=adapter, fault=fault)


def _fault_of_measures(parity: Parity) -> str:
    """What is wrong with the measures of a certificate that is right otherwise; empty when nothing is.

    Certificates of float32 are older than the measures below the largest difference, and need none: there the largest
    one alone finds every bug. In a format that rounds more it does not.
    """
    most, most_rms = MAX_TOLERANCES[parity.dtype]
    pairs = [
        ("root mean square", parity.rms_logprob_difference, parity.rms_tolerance, most_rms),
        ("effect", parity.effect_difference, parity.effect_tolerance, MAX_EFFECT_TOLERANCE),
        ("effect's resolution", parity.effect_resolution, parity.effect_tolerance, MAX_EFFECT_TOLERANCE),
    ]
    if parity.tolerance > most:
        return f"its parity certificate allows {parity.tolerance} nats, and {most} are the most in {parity.dtype}"
    for name, measured, allowed, limit in pairs:
        if measured is None and allowed is None and parity.dtype == "float32":
            continue
        if measured is None or allowed is None:
            return f"its parity certificate lacks the {name}, which it needs in {parity.dtype}"
        if not (abs(measured) <= allowed <= limit):
            return f"the {name} is {measured}, {allowed} is allowed, and {limit} at most"
    return ""


def check_shape(rank: int, alpha: float, target_modules: Sequence[str], field: str) -> None:
    """Check what every LoRA adapter has.

    Raises:
        Invalid: a rank below 1, an alpha that is not above 0, or no target modules.
    """
    violations = []
    if rank < 1:
        violations.append((f"{field}.rank", f"{rank} is below 1"))
    if not (math.isfinite(alpha) and alpha > 0):
        violations.append((f"{field}.alpha", f"{alpha} is not a number above 0"))
    if not target_modules or not all(target_modules):
        violations.append((f"{field}.target_modules", "must name at least one module"))
    if violations:
        raise Invalid("; ".join(f"{path}: {text}" for path, text in violations), violations=violations)


def check_base(adapter: str, base_model: str, said_digest: str, real_digest: str | None) -> None:
    """Check that an adapter's base model exists and is the one it was trained on.

    Args:
        adapter: name of the adapter, for the message.
        base_model: name of the model.
        said_digest: the digest the adapter says it was trained on.
        real_digest: the digest the model has; None when there is no such model.

    Raises:
        BaseModelMismatch: it does not exist, or has other content.
    """
    if real_digest is None:
        raise BaseModelMismatch(f"the base model {base_model} of {adapter} is not registered", base_model=base_model)
    if said_digest != real_digest:
        raise BaseModelMismatch(
            f"{adapter} was trained on {said_digest}, but {base_model} is {real_digest}",
            base_model=base_model,
            base_model_digest=real_digest,
            trained_on_digest=said_digest,
        )


def check_same_base(base_model_digest: str, canary_base_model_digest: str) -> None:
    """Check that a canary runs over the base model of the version beside it.

    Raises:
        BaseModelMismatch: it needs another one.
    """
    if base_model_digest != canary_base_model_digest:
        raise BaseModelMismatch(
            "the canary has another base model than the version beside it",
            base_model_digest=base_model_digest,
            canary_base_model_digest=canary_base_model_digest,
        )


def check_kind(kind: str, family_kind: str, manifest_kind: str, field: str) -> None:
    """Check that a dataset version is what it says, and what its family is.

    Args:
        kind: what the caller says.
        family_kind: what the family is; empty for a family that is new.
        manifest_kind: what the manifest says.
        field: the request's field, for the error.

    Raises:
        Invalid: they differ.
    """
    if kind != manifest_kind:
        raise Invalid.field(field, f"is {kind}, but the manifest holds {manifest_kind} rows")
    if family_kind and kind != family_kind:
        raise Invalid.field(field, f"is {kind}, but every version of this dataset is {family_kind}")


def check_splits(digest: str, splits: Mapping[str, int], shard_splits: Mapping[str, int]) -> None:
    """Check that a manifest's splits are what its files hold.

    Raises:
        ManifestMissing: they are not.
    """
    if {k: n for k, n in splits.items() if n} != {k: n for k, n in shard_splits.items() if n}:
        raise ManifestMissing(
            f"the manifest {digest} says {dict(splits)} rows by split, its files hold {dict(shard_splits)}",
            digest=digest,
        )


def check_rows(benchmark: str, split: str, rows: int) -> int:
    """The number of rows, when there are any.

    Raises:
        BenchmarkEmpty: there are none.
    """
    if rows < 1:
        raise BenchmarkEmpty(
            f"the split {split!r} of benchmark {benchmark} has no rows", benchmark=benchmark, split=split
        )
    return rows


def check_target(target: str, said: tuple[str, str], real: tuple[str, str]) -> None:
    """Check that an evaluation judged what its target is.

    Args:
        target: name of the model or adapter version.
        said: digest and base model digest, as the evaluation says.
        real: the same, as the registry knows.

    Raises:
        TargetMismatch: they differ.
    """
    if said != real:
        raise TargetMismatch(
            f"the evaluation judged {said[0]} over {said[1]}, but {target} is {real[0]} over {real[1]}",
            target=target,
            target_digest=real[0],
            base_model_digest=real[1],
        )
