"""What comparisons of many adapters come to: figures with the bounds that the certificate promises."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.parity.measuring import PROMPT_BUGS, Measured
from benchmarks.results import Figure

CAUGHT = 5.0
"""Tolerances that every planted bug of scale, rank, layer order and base must be away."""
CLAIMED = (*PROMPT_BUGS, "one layer missing", "base in 4 bits")
"""Bugs of which no distance is promised: another prompt has other token ids, which are compared exactly (here serving
claims the right ones all the same); a layer of many is a small part of an adapter; 4 bits round a hundred times as much
as bfloat16 and still leave most of a model. How many are noticed is a figure of its own."""


def figures(found: Sequence[Measured]) -> list[Figure]:
    """Figures of every number format, in the order they were measured."""
    made = []
    for dtype in dict.fromkeys(one.dtype for one in found):
        made += _of_dtype(dtype, [one for one in found if one.dtype == dtype])
    return made


def _of_dtype(dtype: str, found: Sequence[Measured]) -> list[Figure]:
    good = [one for one in found if not one.bug]
    weak = {one.adapter for one in good if one.is_too_weak}
    certified = [one for one in good if one.adapter not in weak]
    made = [
        Figure(f"{dtype}: adapters", len({one.adapter for one in good}), "adapters"),
        Figure(f"{dtype}: adapters too weak to be certified", len(weak), "adapters"),
        Figure(f"{dtype}: good comparisons", len(good), "times"),
        Figure(f"{dtype}: good ones that are refused", sum(one.is_refused for one in good), "times", most=0),
    ]
    if not certified:
        return made  # how far bugs are is promised of adapters that can be certified
    made += [
        Figure(f"{dtype}: farthest good one", _rounded(max(one.distance for one in certified)), "tolerance", most=1),
        Figure(f"{dtype}: largest root mean square", _rounded(max(one.agreement.rms for one in good)), "nats"),
        Figure(f"{dtype}: largest difference of a token", _rounded(max(one.agreement.largest for one in good)), "nats"),
        Figure(f"{dtype}: largest root mean square over rounding", _rounded(max(map(_over_rounding, good))), "x"),
        Figure(f"{dtype}: weakest certified effect", _rounded(min(one.agreement.effect for one in certified)), "nats"),
        Figure(f"{dtype}: least of an effect that is kept", _rounded(min(_kept(one) for one in certified)), "x"),
    ]
    for bug in dict.fromkeys(one.bug for one in found if one.bug):
        planted = [one for one in found if one.bug == bug and one.adapter not in weak]
        nearest = _rounded(min(one.distance for one in planted))
        name = f"{dtype}: {bug}" + (", same ids claimed" if bug in PROMPT_BUGS else "")
        made.append(Figure(name, nearest, "tolerance", least=None if bug in CLAIMED else CAUGHT))
        if bug in CLAIMED:
            share = sum(one.is_refused for one in planted) / len(planted)
            made.append(Figure(f"{name}: share refused", _rounded(share), "x"))
    return made


def _over_rounding(one: Measured) -> float:
    rounding = one.agreement.rounding
    return one.agreement.rms / rounding if rounding else 0.0


def _kept(one: Measured) -> float:
    return one.agreement.effect_kept


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
