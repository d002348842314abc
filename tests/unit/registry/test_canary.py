from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.kit.errors import Invalid
from anneal.registry.domain.canary import check_percent, is_canary, side_of

NAME = "projects/p/deployments/d"


@given(st.text(), st.text())
def test_a_key_always_falls_on_the_same_side(deployment: str, key: str) -> None:
    assert 0 <= side_of(deployment, key) < 100
    assert side_of(deployment, key) == side_of(deployment, key)


def test_a_side_is_written_down() -> None:
    # sha256("projects/p/deployments/d\nuser-1") fixes it; apps rely on their users not jumping.
    assert side_of(NAME, "user-1") == 17


@pytest.mark.parametrize("percent", [1, 10, 50, 99])
def test_the_share_is_what_was_asked_for(percent: int) -> None:
    keys = 20_000
    share = sum(is_canary(side_of(NAME, f"user-{i}"), percent) for i in range(keys)) / keys
    # Four standard errors of a share of 20,000: at most 1.5 percentage points.
    assert share == pytest.approx(percent / 100, abs=0.015)


@given(st.integers(0, 99), st.integers(1, 98))
def test_raising_the_share_takes_no_key_away_from_the_canary(side: int, percent: int) -> None:
    assert is_canary(side, percent) <= is_canary(side, percent + 1)


def test_two_deployments_split_independently() -> None:
    both = sum(
        is_canary(side_of(NAME, f"u{i}"), 50) and is_canary(side_of(NAME + "2", f"u{i}"), 50) for i in range(20_000)
    )
    assert both / 20_000 == pytest.approx(0.25, abs=0.015)


@pytest.mark.parametrize("percent", [1, 99])
def test_shares_at_the_edge(percent: int) -> None:
    assert check_percent(percent, "percent") == percent


@pytest.mark.parametrize("percent", [0, 100, -1])
def test_no_share_at_all_is_refused(percent: int) -> None:
    with pytest.raises(Invalid) as caught:
        check_percent(percent, "canary.percent")
    assert caught.value.violations[0][0] == "canary.percent"
