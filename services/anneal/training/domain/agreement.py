"""Whether serving's logprobs agree with training's: three measures, each with a tolerance for every number format.

A maximum alone cannot tell rounding from a bug in bfloat16. There a single token may differ by most of a nat although
nothing is wrong, and an adapter that changes logprobs by a tenth of a nat disappears below that. So three things are
measured over the tokens of the answers:

- `largest`, the largest absolute difference: nothing is wildly wrong;
- `rms`, the root of the mean square: another base, another prompt, a part of a strong adapter missing;
- `effect_difference`, the projection of the differences on the adapter's own effect (its logprobs minus the base's, in
  float32), as a share of that effect. Rounding has no direction and averages out over the tokens; another scale, fewer
  ranks or no adapter at all lie in exactly this direction. So it is sensitive however weak the adapter is, as long as
  there are tokens enough, and `effect_resolution` says whether there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

STANDARD_ERRORS = 4.0
"""Standard errors within which `effect_difference` is rounding; one good adapter in 16,000 is outside by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """Largest differences that rounding explains; `largest` and `rms` in nats, `effect` as a share."""

    largest: float
    rms: float
    effect: float


TOLERANCES: dict[str, Tolerance] = {
    "float32": Tolerance(largest=1e-5, rms=1e-5, effect=0.05),
    "bfloat16": Tolerance(largest=2.0, rms=0.15, effect=0.05),
    "float16": Tolerance(largest=0.25, rms=0.02, effect=0.05),
}
"""TODO"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far serving is from training.

    Attributes:
        num_tokens: tokens compared.
        largest: largest absolute difference, in nats; infinite where serving gave no finite number.
        rms: root of the mean square of the differences, in nats.
        effect: root of the mean square of the adapter's effect in float32, in nats.
        effect_difference: the differences along the effect, as a share of it.
        effect_resolution: `STANDARD_ERRORS` of `effect_difference`, estimated from the differences themselves.
        effect_kept: share of the effect that the expectations have in serving's number format.
    """

    num_tokens: int
    largest: float
    rms: float
    effect: float
    effect_difference: float
    effect_resolution: float
    effect_kept: float


@dataclass(frozen=True, slots=True)
class Compared:
    """One token of an answer: its logprobs by source, in nats.

    Attributes:
        expected: by training, in serving's number format.
        served: by serving; None where it gave none.
        adapter: by training with the adapter, in float32.
        base: by training without it, in float32.
    """

    expected: float
    served: float | None
    adapter: float
    base: float


def measure_agreement(tokens: Sequence[Compared]) -> Agreement:
    """Compare token by token.

    The standard error is White's (1980, Econometrica 48, 817), which needs no equal variances: tokens that the base
    finds improbable differ more than others, and are the ones an adapter changes most.
    """
    differences = [_difference(token) for token in tokens]
    effects = [token.adapter - token.base for token in tokens]
    squared = math.fsum(e * e for e in effects)
    is_finite = all(math.isfinite(d) for d in differences)
    if not is_finite or squared <= 0.0 or not math.isfinite(squared):
        along = error = kept = math.inf
    else:
        along = math.fsum(d * e for d, e in zip(differences, effects, strict=True)) / squared
        error = math.sqrt(math.fsum((d * e) ** 2 for d, e in zip(differences, effects, strict=True))) / squared
        kept = math.fsum((t.expected - t.base) * e for t, e in zip(tokens, effects, strict=True)) / squared
    count = max(1, len(tokens))
    return Agreement(
        num_tokens=len(tokens),
        largest=max((abs(d) for d in differences), default=0.0),
        rms=math.sqrt(math.fsum(d * d for d in differences) / count) if is_finite else math.inf,
        effect=math.sqrt(squared / count),
        effect_difference=along,
        effect_resolution=STANDARD_ERRORS * error,
        effect_kept=kept,
    )


def _difference(token: Compared) -> float:
    """Served minus expected; infinite where there is nothing to subtract."""
    difference = math.inf if token.served is None else token.served - token.expected
    return math.inf if math.isnan(difference) else difference


def disagreements(agreement: Agreement, tolerance: Tolerance) -> list[str]:
    """What is outside its tolerance, in words; empty when serving agrees with training."""
    found = []
    if not agreement.largest <= tolerance.largest:
        found.append(f"a logprob differs by {agreement.largest:.3g} nats, more than {tolerance.largest:.3g}")
    if not agreement.rms <= tolerance.rms:
        found.append(f"logprobs differ by {agreement.rms:.3g} nats (root mean square), more than {tolerance.rms:.3g}")
    by_chance = max(tolerance.effect, agreement.effect_resolution if math.isfinite(agreement.effect) else 0.0)
    if not abs(agreement.effect_difference) <= by_chance:
        found.append(
            f"the adapter's effect differs by {agreement.effect_difference:+.1%} of it, more than {tolerance.effect:.0%}"
        )
    return found


def is_too_weak(agreement: Agreement, tolerance: Tolerance) -> bool:
    """Whether rounding hides differences of the effect as large as the tolerance."""
    return not agreement.effect_resolution <= tolerance.effect
