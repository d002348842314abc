"""What a job waits for: one closed set of reasons everywhere, and since when, by a clock that the test turns."""

from __future__ import annotations

import pytest

from anneal.kit.jobs.pending import _REMEDIES, Pending, PendingClock, PendingReason
from anneal.v1 import job_service_pb2 as pb

KEY = ("projects/p/operations/train-1", 1)
NODE, IMAGE = Pending(PendingReason.NODE, "0/1 nodes"), Pending(PendingReason.IMAGE, "ErrImagePull")
QUEUE = Pending(PendingReason.QUEUE, "main has not admitted it")
NOTHING = ("", 0.0)


def test_the_contract_has_the_same_reasons() -> None:
    names = {name.removeprefix("PENDING_REASON_").lower() for name in pb.PendingReason.keys()}  # noqa: SIM118
    assert names == {reason.value for reason in PendingReason} | {"unspecified"}


@pytest.mark.parametrize("reason", PendingReason)
def test_every_reason_is_a_sentence_and_every_failure_says_what_to_do(reason: PendingReason) -> None:
    assert Pending(reason).text.startswith("waiting for ")
    assert Pending(reason, "the\n words  of the cluster.").text.endswith(": the words of the cluster")
    assert (reason in _REMEDIES) is reason.is_timed
    refusal = Pending(reason, "words").too_long(900)
    assert str(refusal).startswith(f"it did not start within 900 s: {Pending(reason, 'words').text}")
    assert refusal.facts == {"pending_reason": reason.value, "pending_s": "900"}


def test_timed_reasons_share_a_clock_and_a_queue_starts_it_again() -> None:
    clock = PendingClock()
    assert clock.since(KEY, NODE, 100, stored=NOTHING) == 100
    assert clock.since(KEY, IMAGE, 400, stored=NOTHING) == 100
    assert clock.since(KEY, QUEUE, 500, stored=NOTHING) == 500
    assert clock.since(KEY, NODE, 3_000, stored=NOTHING) == 3_000
    assert clock.since((KEY[0], 2), NODE, 3_100, stored=NOTHING) == 3_100
    clock.forget(KEY)
    assert clock.since(KEY, NODE, 3_200, stored=NOTHING) == 3_200


def test_a_restarted_server_goes_on_from_what_is_stored() -> None:
    assert PendingClock().since(KEY, IMAGE, 400, stored=("node", 100.0)) == 100
    assert PendingClock().since(KEY, IMAGE, 400, stored=("queue", 100.0)) == 400
    assert PendingClock().since(KEY, IMAGE, 400, stored=("a_reason_of_a_later_release", 100.0)) == 400


def test_a_short_wait_is_not_written_and_a_text_that_changes_all_the_time_not_each_time() -> None:
    clock = PendingClock()

    def is_due(pending: Pending, now: float, stored: tuple[str, str] = ("", "")) -> bool:
        clock.since(KEY, pending, now, stored=NOTHING)
        return clock.is_due(KEY, pending, now, stored=stored)

    other = Pending(PendingReason.NODE, "0/2 nodes")
    assert not is_due(NODE, 100)
    assert not is_due(NODE, 101)
    assert is_due(NODE, 102)
    assert not is_due(NODE, 103, (NODE.reason, NODE.text))
    assert not is_due(other, 104, (NODE.reason, NODE.text))
    assert is_due(IMAGE, 105, (NODE.reason, NODE.text))
    assert is_due(other, 116, (NODE.reason, NODE.text))
