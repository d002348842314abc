"""Steps that change rows: what comes after them sees the change, what left before them does not have it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest

from anneal.curation.adapters.executors.threads import Threads
from anneal.curation.domain.engine import NamedStep, curate
from anneal.curation.domain.scores import CountedScorer
from anneal.curation.domain.steps.base import Runnable, Scores
from anneal.curation.domain.steps.exact_duplicates import ExactDuplicates
from anneal.curation.domain.steps.length import Length
from anneal.curation.domain.steps.score_filter import ScoreFilter
from anneal.kit.records import conversation_id
from tests.unit.curation.rows import InMemory, PartsInMemory, asked, run


@dataclass(frozen=True, slots=True)
class HideDigits:
    """Writes 0 for every digit."""

    def rewrite(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = batch.to_pylist()
        for row in rows:
            for turn in row["messages"]:
                turn["content"] = re.sub(r"\d", "0", turn["content"])
        return pa.RecordBatch.from_pylist(rows, schema=batch.schema)


@dataclass(slots=True)
class Longest:
    """Scores answers by their length; one that says nothing has no score."""

    asked_for: list[str] = field(default_factory=list)

    def score(self, batch: pa.RecordBatch) -> Scores:
        answers = [row["messages"][-1]["content"] for row in batch.to_pylist()]
        self.asked_for += answers
        values = pa.array([float(len(answer)) if answer else None for answer in answers], type=pa.float64())
        causes = [None if answer else "it says nothing" for answer in answers]
        return Scores(values={"length": values}, causes=causes)


def test_what_comes_after_a_rewrite_sees_it_and_rows_know_what_they_were() -> None:
    rows = [asked("q", "call 12"), asked("q", "call 34"), asked("q", "call me"), asked("q", "7")]
    memory, outcome = run(rows, Length(min_answer_words=2), HideDigits(), ExactDuplicates(), Length(max_answer_words=2))
    assert outcome.removed == {("Length", "answer_too_short"): 1, ("ExactDuplicates", "exact_duplicate"): 1}
    kept = {row["messages"][-1]["content"]: row for _, row in memory.kept}
    assert set(kept) == {"call 00", "call me"}
    hidden = kept["call 00"]
    assert hidden["id"] == conversation_id(hidden["messages"], None)
    assert hidden["parents"] in ([rows[0]["id"]], [rows[1]["id"]])
    assert kept["call me"]["id"] == rows[2]["id"]
    assert kept["call me"]["parents"] == []
    # What left is as it was when it left.
    left = {verdict.step: row["messages"][-1]["content"] for row, verdict in memory.removed}
    assert left == {"Length": "7", "ExactDuplicates": "call 00"}
    (repeated,) = (verdict.removal.duplicate_of for _, verdict in memory.removed if verdict.step == "ExactDuplicates")
    assert repeated == hidden["id"]


@dataclass(frozen=True, slots=True)
class Counting:
    """Notes which looks are done together."""

    works: list[tuple[str, ...]] = field(default_factory=list)

    def map(self, function: Any, shared: Any, items: Any, then: Any) -> Iterator[Any]:
        for item in items:
            self.works.append(tuple(task.look for task in getattr(item, "tasks", ())))
            yield then(item, function(shared, item))


@pytest.mark.parametrize("piece_rows", [1, 2, 100])
def test_the_looks_at_few_pieces_are_spread_but_none_comes_before_its_rewrite(
    piece_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [asked("q", f"call {n % 7}{n} or not") for n in range(6)] + [asked("q", "7")]
    steps: list[Runnable] = [Length(min_answer_words=2), HideDigits(), ExactDuplicates(), Length(max_answer_words=9)]
    named = [NamedStep(str(n), step, str(n)) for n, step in enumerate(steps)]
    found, told = [], []
    for few in (0, 16):
        monkeypatch.setattr("anneal.curation.domain.workbench.FEW_PIECES", few)
        memory, counting = InMemory([("train", row) for row in rows], piece_rows), Counting()
        outcome = curate(named, memory, PartsInMemory(), counting, memory, lambda *seen: told.append(seen))
        found.append((memory.kept, memory.removed, outcome.removed))
        looked = [works for works in counting.works if works]
        pieces = len(memory.pieces)
        assert len(looked) == pieces * (2 if few else 1)
        assert all({"1", "2", "3"} <= set(works) for works in looked if "1" in works)
        assert ("look", len(rows), len(rows)) in told
        told.clear()
    assert found[0] == found[1]


@pytest.mark.parametrize("piece_rows", [1, 2, 100])
def test_scores_are_asked_for_the_rows_that_are_left_and_filtered_later(piece_rows: int) -> None:
    grader = Longest()
    scorer = CountedScorer("length", grader, 1.0)
    rows = [asked("q", "aaaa"), asked("q", "bb"), asked("p", "bb"), asked("q", ""), asked("q", "c" * 9)]
    memory, outcome = run(
        rows,
        ExactDuplicates(part="answer"),
        scorer,
        HideDigits(),
        ScoreFilter(score="length", min=4, unscored="keep"),
        piece_rows=piece_rows,
    )
    assert sorted(grader.asked_for) == ["", "aaaa", "bb", "c" * 9]
    assert {row["messages"][-1]["content"]: dict(row["scores"]) for _, row in memory.kept} == {
        "": {},
        "aaaa": {"length": 4.0},
        "c" * 9: {"length": 9.0},
    }
    assert outcome.removed[("ScoreFilter", "score_too_low")] == 1
    (said,) = outcome.scorings
    assert (said["rows"], said["scored"], said["unscored"]) == (4, 3, {"it says nothing": 1})


def test_an_attempt_that_goes_on_counts_what_was_scored_before() -> None:
    def attempt(parts: PartsInMemory, fails_at: int | None = None) -> tuple[Longest, Mapping[str, Any]]:
        memory = InMemory([("train", asked("q", "a" * n)) for n in range(6)], piece_rows=2)
        grader = Longest()
        calls = 0

        class Failing(Longest):
            def score(self, batch: pa.RecordBatch) -> Scores:
                nonlocal calls
                calls += 1
                if calls == fails_at:
                    raise KeyboardInterrupt
                return grader.score(batch)

        steps = [NamedStep("score", CountedScorer("length", Failing(), 1.0), "score")]
        outcome = curate(steps, memory, parts, Threads(1), memory, lambda *_: None)
        return grader, outcome.scorings[0]

    parts = PartsInMemory()
    with pytest.raises(KeyboardInterrupt):
        attempt(parts, fails_at=3)
    grader, said = attempt(parts)
    assert sorted(map(len, grader.asked_for)) == [4, 5]
    assert (said["rows"], said["scored"]) == (6, 5)
