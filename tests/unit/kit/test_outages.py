"""What is away is logged when it goes, at most once a minute while it stays away, and when it is back."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from anneal.kit.outages import REPEAT_S, Outages


class Clock:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_outage_is_a_line_at_each_end_and_one_a_minute_between() -> None:
    clock = Clock()
    outages = Outages(clock=clock)
    with capture_logs() as lines:
        for _ in range(10 * 125 + 1):  # 125 s, as often as jobs are supervised
            outages.away("database", "it does not answer", by="jobs")
            clock.now += 0.1
        outages.back(by="jobs")
        outages.back(by="jobs")
    assert [(line["event"], line["away_s"]) for line in lines] == [
        ("away", 0.0),
        ("still away", pytest.approx(60, abs=0.2)),
        ("still away", pytest.approx(120, abs=0.3)),
        ("back", pytest.approx(125, abs=0.3)),
    ]
    assert {line["what"] for line in lines} == {"database"}


def test_several_who_meet_the_same_share_its_lines() -> None:
    outages = Outages(clock=Clock())
    with capture_logs() as lines:
        assert outages.away("database", "first", by="jobs")
        assert not outages.away("database", "second", by="database")
        outages.back(by="jobs")
        assert [line["event"] for line in lines] == ["away"]
        outages.back(by="database")
    assert [line["event"] for line in lines] == ["away", "back"]


EVENTS = st.lists(
    st.tuples(st.sampled_from(["away", "back"]), st.sampled_from(["jobs", "probe"]), st.floats(0, 100)), max_size=60
)


@given(EVENTS)
def test_no_line_comes_too_early_and_every_outage_ends(events: list[tuple[str, str, float]]) -> None:
    clock = Clock()
    outages = Outages(clock=clock)
    said: list[tuple[float, str]] = []
    with capture_logs() as lines:
        for what, who, wait_s in events:
            clock.now += wait_s
            if what == "away":
                outages.away("store", "why", by=who)
            else:
                outages.back(by=who)
            said += [(clock.now, line["event"]) for line in lines[len(said) :]]
        for who in ("jobs", "probe"):
            outages.back(by=who)
    kinds = [line["event"] for line in lines]
    assert kinds.count("away") == kinds.count("back")
    for (before, _), (now, kind) in itertools.pairwise(said):
        if kind == "still away":
            assert now - before >= REPEAT_S
