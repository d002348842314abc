"""The log of answers and the file of scored rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from anneal.evaluation.adapters import row_file
from anneal.evaluation.adapters.answer_log import AnswerLog
from anneal.evaluation.adapters.row_file import ScoredRow, Side
from anneal.evaluation.domain.answers import Answer
from anneal.evaluation.domain.estimates import Score
from anneal.evaluation.domain.questions import Question
from anneal.kit.store import BlobMissing, Store

FULL = Answer(text="a\n\N{SNOWMAN}", finish_reason="stop", tokens=3, latency_s=0.5, reference_logprobs=(-1.0, -0.25))
NONE = Answer(cause="PROMPT_TOO_LONG")


def test_answers_survive_their_process(tmp_path: Path) -> None:
    with AnswerLog(tmp_path / "log") as log:
        log.add("a", FULL)
        log.add("b", NONE)
    with AnswerLog(tmp_path / "log") as log:
        assert (log.get("a"), log.get("b"), log.get("c"), len(log)) == (FULL, NONE, None, 2)


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_line_is_cut_off_and_only_it(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "log"
    with AnswerLog(path) as log:
        log.add("a", FULL)
        log.add("b", FULL)
    path.write_bytes(path.read_bytes()[:-cut])
    with AnswerLog(path) as log:
        assert (log.get("a"), log.get("b")) == (FULL, None)
        log.add("b", NONE)
    with AnswerLog(path) as log:
        assert (log.get("a"), log.get("b"), len(log)) == (FULL, NONE, 2)


def scored(side: Side, row_id: str, **scores: Score | None) -> ScoredRow:
    question = Question(id=row_id, group="page", messages=(("user", "q"),), reference="r")
    return ScoredRow(side=side, benchmark="b", question=question, answer=FULL, scores=scores)


def test_scores_come_back_by_side_and_unscored_stays_unscored(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"), tmp_path / "cache")
    ours = Score(value=0.5, weight=3, group="page")
    rows = [scored("target", "1", f1=ours, em=None), scored("target", "2", f1=None), scored("baseline", "1", f1=ours)]
    digest = row_file.write(store, rows)
    assert row_file.read_scores(store, digest) == {"b": {"f1": {"1": ours, "2": None}, "em": {"1": None}}}
    assert row_file.read_scores(store, digest, "baseline") == {"b": {"f1": {"1": ours}}}


def test_the_same_rows_have_the_same_digest(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"), tmp_path / "cache")
    rows = [scored("target", "1", f1=None)]
    assert row_file.write(store, rows) == row_file.write(store, rows)


def test_lost_rows_are_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(BlobMissing):
        row_file.read_scores(Store(str(tmp_path / "store"), tmp_path / "cache"), "sha256:" + "0" * 64)
