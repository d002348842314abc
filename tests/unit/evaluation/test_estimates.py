"""Means, error bars and paired differences against values worked out by hand."""

from __future__ import annotations

import random
from math import exp, log, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.evaluation.domain.estimates import MIN_GROUPS, Link, Score, difference, estimate

VALUES = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)


def plain(*values: float) -> list[Score]:
    return [Score(value=value) for value in values]


def test_mean_of_five_by_hand() -> None:
    # 2 4 4 4 6: mean 4, s = sqrt(8/4), stderr = s/sqrt(5); t(0.975, 4) = 2.776445 (any table of Student's t)
    result = estimate(plain(2, 4, 4, 4, 6))
    assert result.value == 4
    assert result.stderr == pytest.approx(sqrt(2) / sqrt(5), rel=1e-12)
    assert result.high == pytest.approx(4 + 2.776445 * sqrt(0.4), rel=1e-6)
    assert result.low == pytest.approx(4 - 2.776445 * sqrt(0.4), rel=1e-6)
    assert (result.scored, result.unscored, result.groups) == (5, 0, 5)


def test_unscored_rows_are_counted_and_never_zero() -> None:
    result = estimate([*plain(1, 1), None, None, None])
    assert (result.value, result.scored, result.unscored) == (1, 2, 3)


def test_nothing_scored_is_unknown() -> None:
    result = estimate([None, None])
    assert (result.value, result.stderr, result.low, result.high) == (None, None, None, None)
    assert (result.scored, result.unscored) == (0, 2)


def test_one_row_has_no_error_bar() -> None:
    result = estimate(plain(0.5))
    assert (result.value, result.stderr, result.low) == (0.5, None, None)


def test_weighted_mean_by_hand() -> None:
    # (3*1 + 1*5) / 4 = 2; residuals 3*(1-2) = -3 and 1*(5-2) = 3; sqrt(2/1 * (9+9)) / 4 = 1.5
    result = estimate([Score(value=1, weight=3), Score(value=5, weight=1)])
    assert (result.value, result.stderr) == (2, 1.5)


def test_groups_by_hand() -> None:
    # 10 groups of two equal rows, values 0..9: mean 4.5, residual of a group 2*(g-4.5),
    # sum of squares 4*82.5 = 330, stderr = sqrt(10/9*330)/20
    rows = [Score(value=g, group=str(g)) for g in range(10) for _ in range(2)]
    result = estimate(rows)
    assert result.groups == 10
    assert result.stderr == pytest.approx(sqrt(10 / 9 * 330) / 20, rel=1e-12)
    alone = estimate(plain(*(row.value for row in rows)))
    assert alone.stderr is not None
    assert result.stderr == pytest.approx(alone.stderr * sqrt(2 * (19 / 20) * (10 / 9)), rel=1e-12)


@pytest.mark.parametrize(("groups", "expected"), [(MIN_GROUPS - 1, 2 * (MIN_GROUPS - 1)), (MIN_GROUPS, MIN_GROUPS)])
def test_too_few_groups_make_every_row_its_own(groups: int, expected: int) -> None:
    rows = [Score(value=g, group=str(g)) for g in range(groups) for _ in range(2)]
    assert estimate(rows).groups == expected


def test_exponential_link_by_hand() -> None:
    result = estimate(plain(log(2), log(8)), link=Link.EXP)
    assert result.value == pytest.approx(4)
    # stderr of the mean of two = half their distance = log(8/2)/2 = log(2); delta method: 4*log(2)
    assert result.stderr == pytest.approx(4 * log(2))
    # t(0.975, 1) = 12.7062
    assert result.high == pytest.approx(exp(log(4) + 12.706205 * log(2)), rel=1e-5)
    assert result.low is not None
    assert 0 < result.low < 4


def test_no_overflow_under_the_exponential_link() -> None:
    result = estimate(plain(0.0, 1000.0), link=Link.EXP)
    assert result.high is not None
    assert result.high < float("inf")


def test_paired_difference_by_hand() -> None:
    ours = {"a": Score(value=1), "b": Score(value=1), "c": Score(value=0), "d": Score(value=1)}
    theirs = {"a": Score(value=0), "b": Score(value=1), "c": Score(value=0), "d": Score(value=0)}
    # differences 1 0 0 1: mean 0.5, s = sqrt(4*0.25/3), stderr s/2
    result = difference(ours, theirs)
    assert result.value == 0.5
    assert result.stderr == pytest.approx(sqrt(1 / 3) / 2, rel=1e-12)


def test_pairing_makes_the_interval_narrower_than_two_separate_ones() -> None:
    rng = random.Random(7)
    hardness = [rng.random() for _ in range(100)]
    theirs = {str(i): Score(value=h) for i, h in enumerate(hardness)}
    ours = {str(i): Score(value=h + 0.01 + 0.001 * rng.random()) for i, h in enumerate(hardness)}
    paired = difference(ours, theirs)
    separate = estimate(ours.values())
    assert paired.low is not None
    assert separate.stderr is not None
    assert paired.stderr is not None
    assert paired.low > 0
    assert paired.stderr < separate.stderr / 100


def test_rows_only_one_side_scored_are_unscored() -> None:
    ours = {"a": Score(value=1), "b": None, "c": Score(value=1)}
    theirs = {"a": Score(value=0), "b": Score(value=1), "d": Score(value=1)}
    result = difference(ours, theirs)
    assert (result.value, result.scored, result.unscored) == (1, 1, 3)


def test_other_token_counts_do_not_pair() -> None:
    result = difference({"a": Score(value=1, weight=4)}, {"a": Score(value=1, weight=5)})
    assert (result.value, result.unscored) == (None, 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_is_finite(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Score(value=value)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_is_above_zero(weight: float) -> None:
    with pytest.raises(ValueError, match="above zero"):
        Score(value=1, weight=weight)


@given(st.lists(st.tuples(VALUES, st.integers(1, 50), st.integers(0, 15)), max_size=40), st.randoms())
def test_the_order_of_rows_changes_nothing(rows: list[tuple[float, int, int]], rng: random.Random) -> None:
    scores = [Score(value=v, weight=w, group=f"g{g}") for v, w, g in rows]
    shuffled = scores[:]
    rng.shuffle(shuffled)
    assert estimate(shuffled) == estimate(scores)


@given(st.lists(VALUES, min_size=2, max_size=40))
def test_the_interval_holds_the_mean_and_the_mean_lies_between_the_rows(values: list[float]) -> None:
    result = estimate(plain(*values))
    assert result.value is not None
    assert result.low is not None
    assert result.high is not None
    assert result.low <= result.value <= result.high
    slack = 1e-9 * max(map(abs, values))
    assert min(values) - slack <= result.value <= max(values) + slack


@given(st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=40))
def test_swapping_sides_negates_the_difference(rows: list[tuple[float, float]]) -> None:
    ours = {str(i): Score(value=a) for i, (a, _) in enumerate(rows)}
    theirs = {str(i): Score(value=b) for i, (_, b) in enumerate(rows)}
    there, back = difference(ours, theirs), difference(theirs, ours)
    assert there.value is not None
    assert back.value == -there.value
    assert back.stderr == there.stderr


def test_coverage_of_the_interval_with_grouped_rows() -> None:
    """95 of 100 intervals hold the truth, where rows of one group share their luck (seeded)."""
    rng = random.Random(0)
    hits = 0
    for _ in range(400):
        rows = []
        for group in range(20):
            luck = rng.gauss(0, 1)
            rows += [Score(value=luck + rng.gauss(0, 0.5), group=str(group)) for _ in range(5)]
        result = estimate(rows)
        assert result.low is not None
        assert result.high is not None
        hits += result.low <= 0 <= result.high
    assert 0.92 <= hits / 400 <= 0.98
