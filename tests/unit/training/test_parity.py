from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.training.domain.agreement import (
    BOUNDS,
    Compared,
    disagreements,
    is_too_weak,
    measure_agreement,
    tolerance_of,
)
from anneal.training.errors import EffectTooSmall, ParityFailed, ServingDtypeUnknown
from anneal.training.parity import Answer, ExpectationsMissing, certify

EXPECTED: dict[str, Any] = {
    "row_id": "r",
    "messages": None,
    "tools": None,
    "token_ids": [1, 2, 3, 4],
    "logprobs": {"float32": [-1.0, -2.0, -9.0]},
    "logprobs_again": {"float32": [-1.0, -2.0 + 1e-7, -9.0]},
    "base_logprobs": [-1.0, -3.0, -9.0],
    "targets": [2],  # token 2 is asked, token 3 is answered; the template writes token 4 after the end of the turn
}


def answering(*logprobs: float | None, ids: tuple[int, ...] = (1, 2, 3), dtype: str = "float32") -> Any:
    return lambda _expected: Answer(token_ids=list(ids), logprobs=list(logprobs), dtype=dtype, engine="vllm 0")


def test_a_difference_within_the_tolerance_is_certified() -> None:
    made = certify([EXPECTED], answering(None, -1.5, -2.0 + 4e-6), base_dtype="bfloat16")
    assert (made.passed, made.sample_count, made.token_count, made.token_ids_equal) == (True, 1, 1, True)
    assert made.max_logprob_difference == pytest.approx(4e-6)
    assert made.rms_logprob_difference == pytest.approx(4e-6)
    assert made.effect == pytest.approx(1)
    assert made.effect_difference == pytest.approx(4e-6)
    assert made.rounding == pytest.approx(1e-7)
    assert (made.dtype, made.base_dtype) == ("float32", "bfloat16")
    assert made.engines.startswith("peft ")
    assert made.engines.endswith(", vllm 0")


@pytest.mark.parametrize("served", [-2.0 + 3e-4, float("nan"), None, -math.inf])
def test_a_larger_or_unknown_difference_is_refused(served: float | None) -> None:
    with pytest.raises(ParityFailed, match="nothing is published"):
        certify([EXPECTED], answering(None, -1.0, served))


def test_settings_replace_measured_tolerances() -> None:
    served = answering(None, -1.0, -2.0 + 3e-4)
    made = certify([EXPECTED], served, tolerance=1e-3, rms_tolerance=1e-3)
    assert (made.tolerance, made.rms_tolerance) == (1e-3, 1e-3)
    with pytest.raises(ParityFailed, match="root mean square"):
        certify([EXPECTED], served, tolerance=1e-3)


@pytest.mark.parametrize("ids", [(1, 2), (1, 2, 5), (1, 2, 3, 4)])
def test_other_token_ids_are_refused(ids: tuple[int, ...]) -> None:
    with pytest.raises(ParityFailed, match="render conversation r differently"):
        certify([EXPECTED], answering(None, -1.0, -2.0, -9.0, ids=ids))


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ParityFailed):
        certify([], answering())


@pytest.mark.parametrize("dtype", ["", "float8", "int8"])
def test_a_number_format_without_a_tolerance_is_refused(dtype: str) -> None:
    with pytest.raises(ServingDtypeUnknown):
        certify([EXPECTED], answering(None, -1.0, -2.0, dtype=dtype))


def test_replicas_that_compute_in_several_formats_are_refused() -> None:
    dtypes = iter(("float32", "bfloat16"))

    def score(expected: dict[str, Any]) -> Answer:
        return Answer(token_ids=[1, 2, 3], logprobs=[None, -1.0, -2.0], dtype=next(dtypes))

    with pytest.raises(ServingDtypeUnknown, match="bfloat16, float32"):
        certify([EXPECTED, EXPECTED], score)


def test_a_format_in_which_nothing_is_expected_yet_is_named() -> None:
    with pytest.raises(ExpectationsMissing) as missing:
        certify([EXPECTED], answering(None, -1.0, -2.0, dtype="bfloat16"))
    assert missing.value.dtype == "bfloat16"


def test_an_adapter_that_changes_nothing_is_not_certified() -> None:
    expected = {**EXPECTED, "base_logprobs": EXPECTED["logprobs"]["float32"]}
    with pytest.raises((EffectTooSmall, ParityFailed)):
        certify([expected], answering(None, -1.0, -2.0))


def test_an_effect_below_rounding_is_too_small() -> None:
    noisy = {**EXPECTED, "base_logprobs": [-1.0, -2.0 - 1e-6, -9.0]}
    with pytest.raises(EffectTooSmall, match="weights are stored"):
        certify([noisy], answering(None, -1.0, -2.0))


TOKENS = [
    Compared(
        expected=-1.0 - i / 50, again=-1.0 - i / 50 + 0.01 * (-1) ** i, served=None, adapter=-1.0 - i / 50, base=-2
    )
    for i in range(40)
]


def served(factor: float) -> list[Compared]:
    """Tokens of a serving that applies the adapter this many times."""
    return [replace(t, served=t.base + factor * (t.expected - t.base)) for t in TOKENS]


@given(st.floats(-2, 4))
def test_the_effect_says_how_often_the_adapter_is_applied(factor: float) -> None:
    measured = measure_agreement(served(factor))
    assert measured.effect_difference == pytest.approx(factor - 1, abs=1e-6)
    assert measured.effect_kept == pytest.approx(1)
    assert measured.rounding == pytest.approx(0.01)


@pytest.mark.parametrize("dtype", BOUNDS)
def test_tolerances_follow_rounding_between_their_bounds(dtype: str) -> None:
    bounds = BOUNDS[dtype]
    for rounding in (0.0, bounds.rms[0], 1.0):
        tokens = [replace(t, again=t.expected + rounding * (-1) ** i) for i, t in enumerate(served(1))]
        tolerance = tolerance_of(measure_agreement(tokens), dtype)
        assert tolerance.rms == pytest.approx(min(max(bounds.rms[0], bounds.rms_factor * rounding), bounds.rms[1]))
        assert tolerance.largest == pytest.approx(
            min(max(bounds.largest[0], bounds.largest_factor * rounding), bounds.largest[1])
        )
        assert 0.01 <= tolerance.effect <= 0.05


def test_rounding_that_hides_the_effect_is_told_from_a_bug() -> None:
    noisy = [replace(t, again=t.expected + 0.5 * (-1) ** i) for i, t in enumerate(served(1))]
    measured = measure_agreement(noisy)
    assert is_too_weak(measured)
    assert not disagreements(measured, tolerance_of(measured, "bfloat16"))
    clear = measure_agreement(served(0.5))
    assert not is_too_weak(clear)
    assert any("-50.0%" in text for text in disagreements(clear, tolerance_of(clear, "bfloat16")))
