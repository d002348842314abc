from __future__ import annotations

from typing import Any

import pytest

from anneal.training.errors import ParityFailed
from anneal.training.parity import Answer, certify

EXPECTED: dict[str, Any] = {
    "row_id": "r",
    "messages": None,
    "tools": None,
    "token_ids": [1, 2, 3, 4],
    "logprobs": [-1.0, -2.0, -9.0],
    "targets": [2],  # token 2 is asked, token 3 is answered; the template writes token 4 after the end of the turn
}


def answering(*logprobs: float | None, ids: tuple[int, ...] = (1, 2, 3)) -> Any:
    return lambda _expected: Answer(token_ids=list(ids), logprobs=list(logprobs))


def test_a_difference_within_the_tolerance_is_certified() -> None:
    made = certify([EXPECTED], answering(None, -1.5, -2.0 + 5e-6), 1e-5)
    assert (made.passed, made.sample_count, made.token_count, made.token_ids_equal) == (True, 1, 1, True)
    assert made.max_logprob_difference == pytest.approx(5e-6)
    assert "peft" in made.engines


@pytest.mark.parametrize("served", [-2.0 + 2e-5, float("nan"), None])
def test_a_larger_or_unknown_difference_is_refused(served: float | None) -> None:
    with pytest.raises(ParityFailed):
        certify([EXPECTED], answering(None, -1.0, served), 1e-5)


@pytest.mark.parametrize("ids", [(1, 2), (1, 2, 5), (1, 2, 3, 4)])
def test_other_token_ids_are_refused(ids: tuple[int, ...]) -> None:
    with pytest.raises(ParityFailed):
        certify([EXPECTED], answering(None, -1.0, -2.0, -9.0, ids=ids), 1e-5)


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ParityFailed):
        certify([], answering(), 1e-5)
