from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa
import pytest

from anneal.curation.domain.errors import TooManyUnscored
from anneal.curation.domain.scores import MIN_ROWS, CountedScorer, scored
from anneal.curation.domain.steps.base import Scores, WrongSetting
from anneal.curation.domain.steps.score_filter import ScoreFilter
from anneal.kit.records import CONVERSATION, conversation
from tests.unit.curation.rows import Row, batch_of, judged, reasons


def row(number: int, scores: dict[str, float] | None = None, **meta: Any) -> Row:
    turns = [{"role": "user", "content": f"What is {number}?"}, {"role": "assistant", "content": "A number."}]
    return conversation(turns, source="a", scores=scores, meta=meta)


def given(*values: float | None, name: str = "q", causes: list[str | None] | None = None, **notes: Any) -> Scores:
    found = [None if value is not None else "judge_timeout" for value in values] if causes is None else causes
    return Scores(values={name: pa.array(values, pa.float64())}, causes=found, notes=notes)


def opened(batch: pa.RecordBatch) -> list[tuple[dict[str, float], dict[str, Any]]]:
    return [(dict(row["scores"]), json.loads(row["meta"])) for row in batch.to_pylist()]


def test_scores_and_remarks_come_into_the_rows_and_nothing_else_changes() -> None:
    rows = [row(1, {"z": 1.0, "a": 2.0}, page=3), row(2), row(3)]
    batch = batch_of(rows)
    made = scored(batch, given(4.0, None, 1.0, feedback=["good", None, None]), "judge")
    assert made.schema == CONVERSATION
    assert opened(made) == [
        ({"a": 2.0, "q": 4.0, "z": 1.0}, {"page": 3, "scoring": {"judge": {"feedback": "good"}}}),
        ({}, {"scoring": {"judge": {"unscored": "judge_timeout"}}}),
        ({"q": 1.0}, {}),
    ]
    assert [name for name, _ in made.to_pylist()[0]["scores"]] == ["a", "q", "z"]
    for name in ("id", "messages", "source", "parents", "origin", "tools"):
        assert made.column(name).equals(batch.column(name))


def test_a_new_verdict_replaces_the_old_one_also_by_nothing() -> None:
    first = scored(batch_of([row(1), row(2)]), given(4.0, 3.0, feedback=["good", "fine"]), "judge")
    other = scored(first, given(0.5, 0.5, name="r"), "reward")
    again = scored(other, given(None, 2.0), "judge")
    assert opened(again) == [
        ({"r": 0.5}, {"scoring": {"judge": {"unscored": "judge_timeout"}}}),
        ({"q": 2.0, "r": 0.5}, {}),
    ]


def test_remarks_of_several_scorers_stand_beside_each_other() -> None:
    first = scored(batch_of([row(1)]), given(4.0, feedback=["good"]), "one")
    second = scored(first, given(3.0, name="p", feedback=["fine"]), "two")
    assert opened(second)[0][1]["scoring"] == {"one": {"feedback": "good"}, "two": {"feedback": "fine"}}


@pytest.mark.parametrize(("start", "length"), [(0, 5), (1, 3), (2, 0), (4, 1)])
def test_slices_and_rows_without_scores_or_meta(start: int, length: int) -> None:
    rows = [row(n, {"old": float(n), "q": 9.0}) for n in range(5)]
    rows[1]["scores"] = rows[2]["meta"] = None
    made = scored(batch_of(rows).slice(start, length), given(*map(float, range(length))), "judge")
    expected: list[dict[str, float]] = [
        {"q": float(n - start)} if n == 1 else {"old": float(n), "q": float(n - start)}
        for n in range(start, start + length)
    ]
    assert [dict(row["scores"]) for row in made.to_pylist()] == expected


def test_meta_that_is_no_object_is_kept() -> None:
    odd = [row(1), row(2)]
    odd[0]["meta"], odd[1]["meta"] = "[1]", "not json"
    made = opened(scored(batch_of(odd), given(None, None), "judge"))
    assert [meta["meta"] for _, meta in made] == [[1], "not json"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_no_score(value: float) -> None:
    with pytest.raises(ValueError, match="unknown is null"):
        scored(batch_of([row(1)]), given(value, causes=[None]), "judge")


class Scripted:
    """Says the same of every row."""

    def __init__(self, *values: float | None) -> None:
        self._values = values

    def score(self, batch: pa.RecordBatch) -> Scores:
        return given(*self._values[: batch.num_rows], turned=["2", None, *[None] * (batch.num_rows - 2)])


def test_half_unscored_is_allowed_and_one_more_is_not() -> None:
    rows = [row(n) for n in range(4)]
    allowed = CountedScorer("q", Scripted(1.0, 2.0, None, None), 0.5, totals=("turned",))
    allowed.score(batch_of(rows))
    assert allowed.finish() == {
        "scorer": "q", "rows": 4, "scored": 2, "unscored": {"judge_timeout": 2}, "turned": 2
    }  # fmt: skip
    refused = CountedScorer("q", Scripted(1.0, None, None, None), 0.5)
    refused.score(batch_of(rows))
    with pytest.raises(TooManyUnscored, match=r"3 of 4 rows unscored \(judge_timeout: 3\)") as caught:
        refused.finish()
    assert caught.value.facts == {"scorer": "q", "unscored": "3", "rows": "4"}


@pytest.mark.parametrize(("rows", "stops"), [(MIN_ROWS - 1, False), (MIN_ROWS, True)])
def test_a_job_that_goes_on_for_nothing_stops_early(rows: int, stops: bool) -> None:
    scorer = CountedScorer("q", Scripted(*[None] * rows), 0.5)
    batch = batch_of([row(n) for n in range(rows)])
    if stops:
        with pytest.raises(TooManyUnscored):
            scorer.score(batch)
    else:
        assert scorer.score(batch).causes == ["judge_timeout"] * rows


def test_no_row_is_no_reason_to_stop() -> None:
    assert CountedScorer("q", Scripted(), 0.0).finish() == {"scorer": "q", "rows": 0, "scored": 0, "unscored": {}}


def test_a_filter_keeps_its_limits_and_drops_what_is_beyond() -> None:
    step = ScoreFilter(score="q", min=2.0, max=3.0, unscored="keep")
    rows = [row(n, {"q": value, "other": 9.0}) for n, value in enumerate((1.999, 2.0, 3.0, 3.001))]
    assert reasons(step, *rows) == ["score_too_low", "", "", "score_too_high"]
    low = judged(step, *rows)[0]
    assert low is not None
    assert low.numbers == {"name": "q", "score": 1.999, "min": 2.0}


@pytest.mark.parametrize(("unscored", "reason"), [("keep", ""), ("drop", "unscored")])
def test_unscored_rows_go_the_way_the_order_says(unscored: Any, reason: str) -> None:
    step = ScoreFilter(score="q", min=2.0, unscored=unscored)
    rows = [row(1), row(2, {"other": 3.0}), row(3, {"q": 2.0})]
    rows[0]["scores"] = None
    assert reasons(step, *rows, row(4, {"q": math.nan})) == [reason, reason, "", reason]


def test_a_filter_takes_slices_and_infinite_scores() -> None:
    batch = batch_of([row(n, {"q": value}) for n, value in enumerate((5.0, 1.0, math.inf, -math.inf))])
    found = ScoreFilter(score="q", min=2.0, max=9.0, unscored="drop").judge(batch.slice(1))
    assert {place: removal.reason for place, removal in found.items()} == {
        0: "score_too_low", 1: "score_too_high", 2: "score_too_low"
    }  # fmt: skip
    json.dumps([dict(removal.numbers) for removal in found.values()], allow_nan=False)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"score": " ", "min": 1.0}, "score"),
        ({"score": "q"}, "min"),
        ({"score": "q", "min": math.nan}, "min"),
        ({"score": "q", "max": math.inf}, "max"),
        ({"score": "q", "min": 2.0, "max": 1.0}, "max"),
    ],
)
def test_a_filter_refuses_impossible_settings(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(WrongSetting) as caught:
        ScoreFilter(unscored="keep", **settings)
    assert caught.value.field == field
