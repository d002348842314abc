from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from anneal.synthesis.adapters.backoff import Backoff
from anneal.synthesis.adapters.file_journal import FileJournal
from anneal.synthesis.domain.teacher import CallRefused, TeacherBusy, TeacherLost


def test_a_journal_gives_back_what_was_appended(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "calls.jsonl")
    journal.append({"event": "reserved", "text": "a\nb \u00e9"})
    journal.append({"event": "ended"})
    journal.close()
    again = FileJournal(tmp_path / "calls.jsonl")
    assert again.read() == [{"event": "reserved", "text": "a\nb \u00e9"}, {"event": "ended"}]
    again.close()


@pytest.mark.parametrize("torn", [b"{", b'{"event": "ended"}', b"\xff\xfe"])
def test_a_line_cut_off_by_a_kill_is_dropped_and_the_next_one_starts_clean(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(b'{"n":1}\n' + torn)
    journal = FileJournal(path)
    assert journal.read() == [{"n": 1}]
    journal.append({"n": 2})
    journal.close()
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == [{"n": 1}, {"n": 2}]


def test_a_damaged_line_in_the_middle_is_never_skipped(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(b'{"n":1}\n{"n\n{"n":3}\n')
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        FileJournal(path)


async def play(backoff: Backoff, *failures: Exception | None) -> int:
    """Attempts made until one succeeds."""
    script = iter(failures)
    tried = 0
    async for attempt in backoff():
        with attempt:
            tried += 1
            failure = next(script)
            if failure is not None:
                raise failure
            return tried
    raise AssertionError


def backoff(waits: list[float]) -> Backoff:
    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    return Backoff(most=4, first_s=1.0, max_s=3.0, sleep=sleep, jitter=lambda: 1.0)


async def test_waits_double_up_to_the_longest() -> None:
    waits: list[float] = []
    lost = TeacherLost("x")
    assert await play(backoff(waits), lost, lost, lost, None) == 4
    assert waits == [1.0, 2.0, 3.0]


async def test_the_teacher_says_how_long_within_reason() -> None:
    waits: list[float] = []
    assert await play(backoff(waits), TeacherBusy("x", 0.25), TeacherBusy("x", 600.0), None) == 3
    assert waits == [0.25, 3.0]


async def test_the_last_failure_gets_out() -> None:
    waits: list[float] = []
    with pytest.raises(TeacherBusy, match="fourth"):
        await play(backoff(waits), *[TeacherBusy("x")] * 3, TeacherBusy("fourth"))
    assert len(waits) == 3


async def test_a_teacher_that_takes_no_calls_is_waited_for_and_no_attempt_is_counted() -> None:
    waits: list[float] = []
    said: list[str] = []
    patient = replace(backoff(waits), away_s=100.0, report=said.append, clock=lambda: sum(waits))
    busy, lost = TeacherBusy("no server"), TeacherLost("x")
    assert await play(patient, *[busy] * 20, lost, busy, lost, lost, None) == 25
    assert said == ["waiting for the teacher: no server"] * 21 + [""]


async def test_a_teacher_that_stays_away_is_given_up() -> None:
    waits: list[float] = []
    patient = replace(backoff(waits), away_s=10.0, clock=lambda: sum(waits))
    with pytest.raises(TeacherBusy):
        await play(patient, *[TeacherBusy("no server")] * 40)
    assert 10.0 <= sum(waits) < 10.0 + 4 * 3.0


async def test_what_will_never_do_is_not_tried_again() -> None:
    waits: list[float] = []
    with pytest.raises(CallRefused):
        await play(backoff(waits), CallRefused("no"))
    assert waits == []


def test_jitter_spreads_the_second_half_of_a_wait() -> None:
    assert Backoff(first_s=2.0, jitter=lambda: 0.0).wait_s(1, TeacherLost("x")) == 1.0
    assert Backoff(first_s=2.0, jitter=lambda: 1.0).wait_s(1, TeacherLost("x")) == 2.0
