"""Faults, waits, keys, restarts: how judges are asked."""

from __future__ import annotations

import json
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import Response

from anneal.curation.adapters.judges.panel import MAX_SILENT, Patience
from anneal.curation.domain.errors import JudgeRefused
from anneal.curation.domain.judges import Asking, Judge
from anneal.curation.domain.steps.llm_judge import LlmJudge, LlmJudging
from tests.fixtures.openai_server import failure, openai_server
from tests.integration.curation.judging import (
    Counts,
    grade_in_answer,
    judge,
    panel,
    rows,
    scores_of,
    shown,
    values,
)
from tests.unit.curation.rows import asked, batch_of


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (429, "judge_busy"),
        (503, "judge_busy"),
        (500, "judge_failed"),
        (408, "judge_failed"),
        (5.0, "judge_timeout"),
        (b"<html>", "judge_failed"),
        (b"{}", "judge_failed"),
        (b'{"choices": []}', "judge_failed"),
    ],
)
def test_a_fault_that_stays_leaves_the_row_unscored_after_all_attempts(
    tmp_path: Path, fault: int | float | bytes, cause: str
) -> None:
    def answer(*_: Any) -> Response | float:
        if isinstance(fault, float):
            return fault
        return failure(fault) if isinstance(fault, int) else Response(fault, media_type="application/json")

    counts = Counts()
    patience = Patience(timeout_s=0.2, attempts=3, first_wait_s=0.01)
    found, server = scores_of(answer, tmp_path, asked("Q?", "A."), counts=counts, patience=patience)
    assert values(found)["llm_judge"] == [None]
    assert found.causes == [cause]
    assert len(server.requests) == 3
    assert counts.answers == {"failed_attempts": 3, "unanswered": 1}


@pytest.mark.parametrize("fault", [429, 503, 500, 5.0])
def test_a_fault_that_passes_costs_nothing_but_time(tmp_path: Path, fault: int | float) -> None:
    def answer(body: dict[str, Any], same: int) -> Response | float:
        if same < 3:
            return fault if isinstance(fault, float) else failure(fault)
        return grade_in_answer(body, same)

    patience = Patience(timeout_s=0.3, attempts=3, first_wait_s=0.01)
    found, server = scores_of(answer, tmp_path, *rows(4), patience=patience)
    assert values(found)["llm_judge"] == [1.0, 2.0, 3.0, 4.0]
    assert len(server.requests) == 12


def test_a_slow_judge_is_waited_for(tmp_path: Path) -> None:
    def slow(body: dict[str, Any], same: int) -> Response:
        time.sleep(0.1)
        return grade_in_answer(body, same)

    found, _ = scores_of(slow, tmp_path, *rows(2), patience=Patience(timeout_s=5, attempts=1))
    assert found.causes == [None, None]


def test_retry_after_is_honoured_in_seconds(tmp_path: Path) -> None:
    seen: list[float] = []

    def answer(body: dict[str, Any], same: int) -> Response:
        seen.append(time.monotonic())
        return failure(429, **{"Retry-After": "0.4"}) if same == 1 else grade_in_answer(body, same)

    found, _ = scores_of(answer, tmp_path, *rows(1))
    assert found.causes == [None]
    assert 0.4 <= seen[1] - seen[0] < 5


def test_retry_after_may_be_a_time_and_waits_no_longer_than_allowed(tmp_path: Path) -> None:
    seen: list[float] = []

    def answer(body: dict[str, Any], same: int) -> Response:
        seen.append(time.monotonic())
        later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
        return failure(503, **{"Retry-After": later}) if same == 1 else grade_in_answer(body, same)

    patience = Patience(timeout_s=5, attempts=2, first_wait_s=0.01, max_wait_s=0.3)
    found, _ = scores_of(answer, tmp_path, *rows(1), patience=patience)
    assert found.causes == [None]
    assert 0.3 <= seen[1] - seen[0] < 5


def test_waits_double_up_to_the_longest() -> None:
    patience = Patience(first_wait_s=1.0, max_wait_s=3.0)
    for failed, full in ((1, 1.0), (2, 2.0), (3, 3.0), (9, 3.0)):
        assert full / 2 <= patience.wait_s(failed, None) <= full
    assert patience.wait_s(1, 0.0) == 0.0
    assert patience.wait_s(1, 99.0) == 3.0


def test_an_endpoint_that_knows_no_schema_is_asked_without(tmp_path: Path) -> None:
    def answer(body: dict[str, Any], same: int) -> Response:
        return failure(400) if "response_format" in body else grade_in_answer(body, same)

    found, server = scores_of(answer, tmp_path, *rows(5), asking=Asking(concurrency=1))
    assert values(found)["llm_judge"] == [1.0, 2.0, 3.0, 4.0, 1.0]
    assert [("response_format" in body) for body in server.requests] == [True, *[False] * 5]


def test_a_call_refused_with_and_without_schema_is_about_that_row(tmp_path: Path) -> None:
    def answer(body: dict[str, Any], same: int) -> Response:
        return failure(422) if "Question 1?" in shown(body, "prompt") else grade_in_answer(body, same)

    found, server = scores_of(answer, tmp_path, *rows(3), asking=Asking(concurrency=1))
    assert found.causes == [None, "call_refused", None]
    # Row 0 showed that the endpoint knows schemas, so row 1 was asked once.
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_judge_that_refuses_everything_ends_the_job(tmp_path: Path, status: int, monkeypatch: Any) -> None:
    monkeypatch.setenv("ANNEAL_JUDGE_KEY_MAIN", "sk-very-secret")

    def leaky(*_: Any) -> Response:
        error = {"message": "no such key: sk-very***cret" if status != 404 else "no such model", "type": "fault"}
        return Response(json.dumps({"error": error}), status_code=status, media_type="application/json")

    with openai_server(leaky) as server:
        step = LlmJudge(judge=judge(server, api_key_env="ANNEAL_JUDGE_KEY_MAIN"))
        with pytest.raises(JudgeRefused, match=f"judge-1 at 127.0.0.1 answered {status}") as caught:
            LlmJudging(step=step, asker=panel(tmp_path)).score(batch_of(rows(30)))
    assert server.keys[0] == "Bearer sk-very-secret"
    assert "sk-" not in str(caught.value)
    assert ("no such model" in str(caught.value)) == (status == 404)
    assert b"sk-" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_a_key_that_is_not_there_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("ANNEAL_JUDGE_KEY_MAIN", raising=False)
    step = LlmJudge(judge=Judge(base_url="http://127.0.0.1:1/v1", model="m", api_key_env="ANNEAL_JUDGE_KEY_MAIN"))
    with pytest.raises(JudgeRefused, match="ANNEAL_JUDGE_KEY_MAIN is not set"):
        LlmJudging(step=step, asker=panel(tmp_path)).score(batch_of(rows(1)))


@pytest.mark.parametrize(("count", "down"), [(MAX_SILENT, 0), (MAX_SILENT + 3, 3)])
def test_nobody_at_the_door_is_not_asked_forever(tmp_path: Path, count: int, down: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    step = LlmJudge(judge=Judge(base_url=address, model="m"), asking=Asking(concurrency=1))
    asker = panel(tmp_path, patience=Patience(timeout_s=2, attempts=1))
    found = LlmJudging(step=step, asker=asker).score(batch_of(rows(count)))
    assert found.causes.count("judge_unreachable") == MAX_SILENT
    assert found.causes.count("judge_down") == down


def test_a_judge_that_is_restarted_is_waited_for(tmp_path: Path) -> None:
    told: list[str] = []

    def answer(body: dict[str, Any], same: int) -> Response:
        return failure(503) if same <= 9 else grade_in_answer(body, same)

    with openai_server(answer) as server:
        step = LlmJudge(judge=judge(server), asking=Asking(concurrency=1))
        patience = Patience(timeout_s=5, attempts=2, first_wait_s=0.01, max_wait_s=0.02, away_s=60)
        asker = panel(tmp_path, patience=patience, waiting=told.append)
        found = LlmJudging(step=step, asker=asker).score(batch_of(rows(2)))
    assert found.causes == [None, None]
    assert told[0].startswith("waiting for judge-1 at 127.0.0.1")
    assert told[0].endswith(": judge_busy")
    assert told[-1] == ""


def test_a_judge_that_stays_away_is_waited_for_once(tmp_path: Path) -> None:
    step = LlmJudge(judge=Judge(base_url="http://127.0.0.1:1/v1", model="m"), asking=Asking(concurrency=1))
    patience = Patience(timeout_s=2, attempts=1, first_wait_s=0.01, max_wait_s=0.1, away_s=1.0)
    asker = panel(tmp_path, patience=patience)
    start = time.monotonic()
    found = LlmJudging(step=step, asker=asker).score(batch_of(rows(4)))
    again = LlmJudging(step=step, asker=asker).score(batch_of(rows(4)))
    assert set(found.causes) == set(again.causes) == {"judge_unreachable"}
    assert 1.0 <= time.monotonic() - start < 6.0


@pytest.mark.parametrize("allowed", [1, 3])
def test_no_more_calls_are_under_way_than_allowed(tmp_path: Path, allowed: int) -> None:
    came: list[float] = []

    def answer(*_: Any) -> float:
        came.append(time.monotonic())
        return 0.3

    patience = Patience(timeout_s=5, attempts=1)
    scores_of(answer, tmp_path, *rows(6), asking=Asking(concurrency=allowed), patience=patience)
    assert max(sum(start <= one < start + 0.25 for one in came) for start in came) == allowed


def test_equal_rows_are_asked_about_once(tmp_path: Path) -> None:
    found, server = scores_of(grade_in_answer, tmp_path, *rows(1) * 5)
    assert values(found)["llm_judge"] == [1.0] * 5
    assert len(server.requests) == 1


@pytest.mark.parametrize("damage", [b"", b'{"key": "sha256:', b"\xff\xfe\n", b'{"key": 1}\n', b"\0" * 50 + b"\n"])
def test_a_killed_job_pays_nothing_twice(tmp_path: Path, damage: bytes) -> None:
    before, after = Counts(), Counts()
    with openai_server(grade_in_answer) as server:
        step = LlmJudge(judge=judge(server))
        first = LlmJudging(step=step, asker=panel(tmp_path, before)).score(batch_of(rows(6)))
        log = tmp_path / "judges.jsonl"
        log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:4]) + damage)
        again = LlmJudging(step=step, asker=panel(tmp_path, after)).score(batch_of(rows(6)))
        third = LlmJudging(step=step, asker=panel(tmp_path, Counts())).score(batch_of(rows(6)))
    assert values(first) == values(again) == values(third)
    assert first.notes == again.notes == third.notes
    assert (before.answers, before.tokens) == ({"calls": 6}, {"prompt": 240, "completion": 120})
    assert (after.answers, after.tokens) == ({"calls": 2, "reused": 4}, {"prompt": 80, "completion": 40})
    assert len(server.requests) == 8


@pytest.mark.parametrize(
    "change", [{"rubric": "1 bad, 2 poor, 3 fair, 4 good"}, {"asking": Asking(max_tokens=64)}, {"model": "judge-2"}]
)
def test_another_question_is_asked_anew(tmp_path: Path, change: dict[str, Any]) -> None:
    model = change.pop("model", "judge-1")
    with openai_server(grade_in_answer) as server:
        for step in (LlmJudge(judge=judge(server)), LlmJudge(judge=judge(server, model), **change)):
            LlmJudging(step=step, asker=panel(tmp_path)).score(batch_of(rows(2)))
    assert len(server.requests) == 4


def test_a_question_that_was_not_answered_is_asked_again_by_the_next_attempt(tmp_path: Path) -> None:
    with openai_server(lambda body, same: failure(500) if same <= 3 else grade_in_answer(body, same)) as server:
        step = LlmJudge(judge=judge(server))
        causes = [LlmJudging(step=step, asker=panel(tmp_path)).score(batch_of(rows(1))).causes for _ in range(2)]
    assert causes == [["judge_failed"], [None]]


class Stopped(Exception):
    """What a job raises when it shall stop."""


def test_a_stop_does_not_wait_for_a_slow_judge_and_keeps_what_was_paid(tmp_path: Path) -> None:
    def answer(body: dict[str, Any], same: int) -> Response | float:
        return 30.0 if "Question 3?" in shown(body, "prompt") else grade_in_answer(body, same)

    def check() -> None:
        if len(panel_log.read_bytes().splitlines()) == 3:
            raise Stopped

    panel_log = tmp_path / "judges.jsonl"
    panel_log.touch()
    counts = Counts()
    start = time.monotonic()
    with openai_server(answer) as server:
        step = LlmJudge(judge=judge(server))
        asker = panel(tmp_path, counts, patience=Patience(timeout_s=60, attempts=1), check=check)
        with pytest.raises(Stopped):
            LlmJudging(step=step, asker=asker).score(batch_of(rows(4)))
    assert time.monotonic() - start < 15
    assert counts.answers == {"calls": 3}
