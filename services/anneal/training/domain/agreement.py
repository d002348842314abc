"""Whether serving's logprobs agree with training's: three measures, each with a tolerance in every number format.

A maximum alone cannot tell rounding from a bug in bfloat16. There a single token may differ by most of a nat although
nothing is wrong, and an adapter that changes logprobs by a tenth of a nat disappears below that. So three things are
measured over the tokens of the answers:

- `largest`, the largest absolute difference: no token is wildly wrong;
- `rms`, the root of the mean square: another base, another prompt, a part of a strong adapter missing;
- `effect_difference`, the projection of the differences on the adapter's own effect (its logprobs minus the base's, in
  float32), as a share of that effect. Rounding has no direction and averages out over the tokens; another scale, fewer
  ranks or no adapter at all lie in exactly this direction. So it is sensitive however weak the adapter is, as long as
  there are tokens enough, and `effect_resolution` says whether there are.

How far rounding moves a logprob depends on the model as much as on the number format: in bfloat16 SmolLM2-135M differs
by 0.1 nats, a model of 4 layers by 0.02. So training computes every logprob twice, with other kernels and batches, and
tolerances are multiples of what that differs by, between two bounds for each format.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

STANDARD_ERRORS = 6.0
"""Standard errors of `effect_difference` that are taken for rounding: four, times 1.5 for an engine that rounds more
often than torch does."""
MIN_EFFECT_TOLERANCE, MAX_EFFECT_TOLERANCE = 0.01, 0.05
"""Bounds of the tolerance of `effect_difference`. Above the upper one an adapter is too weak to be certified: a scale
that is halved must stay ten tolerances away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Lowest and highest tolerance of `largest` and `rms`, in nats, and how many roundings they are between these.

    A rounding is the root of the mean square of what two computations of training differ by.
    """

    largest: tuple[float, float]
    rms: tuple[float, float]
    largest_factor: float = 20.0
    rms_factor: float = 2.5


BOUNDS: dict[str, Bounds] = {
    "float32": Bounds(largest=(2e-4, 1e-3), rms=(2.5e-5, 2e-4), largest_factor=100.0, rms_factor=12.0),
    "bfloat16": Bounds(largest=(0.2, 2.0), rms=(0.01, 0.25)),
    "float16": Bounds(largest=(0.025, 0.25), rms=(0.00125, 0.03)),
}
"""Bounds by number format; no certificate is given in another one.

Measured by `benchmarks/parity` (its figures are kept in `benchmarks/results/parity.json`): adapters of rank 4 to 64,
trained for real from two steps to sixty on small bases of eight families, and served by torch in the number format
under other kernels than training's: eager and plain attention, padded and packed batches, matrix products summed in
parts, with the parts rounded as between tensor-parallel GPUs. In bfloat16 serving was at most 2.1 roundings away (root
mean square; 12.8 for one token), so that the farthest good adapter reached 0.8 of a tolerance, while every adapter with
another scale, half of its rank, swapped layers, no adapter or another base was at least 9 tolerances away.
SmolLM2-135M in bfloat16: 1.25 roundings, and the same bugs at least 10 tolerances away. What is not noticed there is
one layer of thirty missing, which is smaller than rounding.

In float32 two computations of torch share their matrix products and differ by less than two engines do. Of
SmolLM2-135M, trained at a high rate, vLLM's CPU build was up to 5.7 roundings away (7.3e-6 nats; 5.7e-5 for one token),
which the bench's stand-ins do not show (1.4e-6). Training's own logprobs were 1.2e-6 to 2.5e-6 nats from float64 there,
so that the engine is the less exact one; which of its kernels it is has not been found. Every planted bug is at least
71 tolerances away, one layer missing among them.

On a prompt's improbable tokens (logprobs near -20), which are not compared, float32 itself is no better than 1.7e-5
nats: so far apart were two PEFT computations of one adapter, in float32 and in float64, on `anneal-tiny`. On the tokens
of answers PEFT and vLLM differed by 1.4e-6 there.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """Largest differences that rounding explains; `largest` and `rms` in nats, `effect` as a share."""

    largest: float
    rms: float
    effect: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far serving is from training.

    Attributes:
        num_tokens: tokens compared.
        largest: largest absolute difference, in nats; infinite where serving gave no finite number.
        rms: root of the mean square of the differences, in nats.
        rounding: the same of two computations of training, in nats; None where it computed once.
        effect: root of the mean square of the adapter's effect in float32, in nats.
        effect_difference: the differences along the effect, as a share of it.
        effect_resolution: share that rounding may make up: `STANDARD_ERRORS`, from the two computations.
        effect_kept: share of the effect that the expectations have in serving's number format.
    """

    num_tokens: int
    largest: float
    rms: float
    rounding: float | None
    effect: float
    effect_difference: float
    effect_resolution: float
    effect_kept: float


@dataclass(frozen=True, slots=True)
class Compared:
    """One token of an answer: its logprobs by source, in nats.

    Attributes:
        expected: by training, in serving's number format.
        again: by training in the same format with other kernels and batches; None where it computed once.
        served: by serving; None where it gave none.
        adapter: by training with the adapter, in float32.
        base: by training without it, in float32.
    """

    expected: float
    again: float | None
    served: float | None
    adapter: float
    base: float


def measure_agreement(tokens: Sequence[Compared]) -> Agreement:
    """Compare token by token.

    The standard error is White's (1980, Econometrica 48, 817), which needs no equal variances: tokens that the base
    finds improbable differ more than others, and are the ones an adapter changes most.
    """
    differences = [math.inf if t.served is None else _finite(t.served - t.expected) for t in tokens]
    twice = [_finite(t.again - t.expected) for t in tokens if t.again is not None]
    roundings = twice if len(twice) == len(tokens) else None
    effects = [_finite(t.adapter - t.base) for t in tokens]
    squared = math.fsum(e * e for e in effects) if math.inf not in effects else math.inf
    along = error = kept = math.inf
    if math.inf not in differences and 0.0 < squared < math.inf:
        along = math.fsum(d * e for d, e in zip(differences, effects, strict=True)) / squared
        noise = differences if roundings is None else roundings
        error = math.sqrt(math.fsum((d * e) ** 2 for d, e in zip(noise, effects, strict=True))) / squared
        kept = math.fsum((t.expected - t.base) * e for t, e in zip(tokens, effects, strict=True)) / squared
    return Agreement(
        num_tokens=len(tokens),
        largest=max((abs(d) for d in differences), default=0.0),
        rms=_root_mean_square(differences),
        rounding=None if roundings is None else _root_mean_square(roundings),
        effect=_root_mean_square(effects),
        effect_difference=along,
        effect_resolution=STANDARD_ERRORS * error,
        effect_kept=kept,
    )


def _finite(difference: float) -> float:
    """The difference; positive infinity where it is no finite number."""
    return difference if math.isfinite(difference) else math.inf


def _root_mean_square(values: Sequence[float]) -> float:
    if not values or math.inf in values:
        return math.inf if values else 0.0
    return math.sqrt(math.fsum(v * v for v in values) / len(values))


def tolerance_of(agreement: Agreement, dtype: str) -> Tolerance:
    """What rounding explains in a number format of `BOUNDS`, given what two computations of training differ by."""
    bounds, rounding = BOUNDS[dtype], agreement.rounding or 0.0
    return Tolerance(
        largest=_between(bounds.largest, bounds.largest_factor * rounding),
        rms=_between(bounds.rms, bounds.rms_factor * rounding),
        effect=_between((MIN_EFFECT_TOLERANCE, MAX_EFFECT_TOLERANCE), agreement.effect_resolution),
    )


def _between(bounds: tuple[float, float], value: float) -> float:
    low, high = bounds
    return min(max(low, value), high)


def disagreements(agreement: Agreement, tolerance: Tolerance) -> list[str]:
    """What is outside its tolerance, in words; empty when serving agrees with training."""
    found = []
    if not agreement.largest <= tolerance.largest:
        found.append(f"a logprob differs by {agreement.largest:.3g} nats, more than {tolerance.largest:.3g}")
    if not agreement.rms <= tolerance.rms:
        found.append(f"logprobs differ by {agreement.rms:.3g} nats (root mean square), more than {tolerance.rms:.3g}")
    share, by_chance = abs(agreement.effect_difference), max(tolerance.effect, agreement.effect_resolution)
    if not share <= by_chance:
        found.append(
            f"the adapter's effect differs by {agreement.effect_difference:+.1%} of it, more than {by_chance:.1%}"
        )
    return found


def is_too_weak(agreement: Agreement) -> bool:
    """Whether rounding hides differences of the adapter's effect that a certificate must notice."""
    return not agreement.effect_resolution <= MAX_EFFECT_TOLERANCE
