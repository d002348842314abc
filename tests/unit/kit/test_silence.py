"""How long a running job has been silent, by a clock that the test turns."""

from __future__ import annotations

from anneal.kit.jobs.reader import Job
from anneal.kit.jobs.silence import Silence
from anneal.kit.jobs.states import State
from anneal.kit.metrics import Running

NAME = "projects/p/operations/train-1"
LEASE_S = 60.0


def job(*, lease_until: float, last_sequence: int) -> Job:
    return Job(
        name=NAME,
        project="projects/p",
        kind="train",
        state=State.RUNNING,
        attempt=1,
        failures=0,
        max_attempts=4,
        request=b"",
        request_id="",
        lease_until=lease_until,
        not_before=0.0,
        last_sequence=last_sequence,
        progress=None,
        result=None,
        error=None,
        last_failure="",
        create_time=0.0,
        start_time=0.0,
        end_time=None,
    )


def listened(silence: Silence, now: float, *, lease_until: float, last_sequence: int) -> Running:
    return silence.listen([job(lease_until=lease_until, last_sequence=last_sequence)], now, LEASE_S)["train", NAME]


def test_a_heartbeat_without_a_report_ends_no_stall() -> None:
    silence = Silence()
    assert listened(silence, 100, lease_until=160, last_sequence=3) == Running(0, 0)
    assert listened(silence, 110, lease_until=160, last_sequence=3) == Running(10, 10)
    assert listened(silence, 120, lease_until=180, last_sequence=3) == Running(0, 20)
    assert listened(silence, 130, lease_until=190, last_sequence=4) == Running(0, 0)


def test_an_attempt_that_starts_is_not_late_before_its_first_heartbeat_could_be() -> None:
    silence = Silence()
    assert listened(silence, 0, lease_until=120, last_sequence=2).heartbeat_age_s == 0
    assert listened(silence, 60, lease_until=120, last_sequence=2).heartbeat_age_s == 0
    assert listened(silence, 90, lease_until=120, last_sequence=2).heartbeat_age_s == 30


def test_a_job_that_ended_is_forgotten() -> None:
    silence = Silence()
    listened(silence, 100, lease_until=160, last_sequence=3)
    assert silence.listen([], 110, LEASE_S) == {}
    assert listened(silence, 500, lease_until=560, last_sequence=3).stall_s == 0
