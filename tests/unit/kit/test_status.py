"""Refusals on the wire: every kind comes back as it went, bugs come back as nothing to act on."""

from __future__ import annotations

import pytest

from anneal.kit import errors
from anneal.kit.errors import Kind, Refusal
from anneal.kit.rpc.status import CODES, decode_status, encode_refusal, internal_status

_MADE = [
    errors.Invalid("bad: no", violations=[("spec.rank", "is 0")]),
    errors.Missing("gone", adapter="a"),
    errors.Exists("taken"),
    errors.RequestIdReused("again", request_id="r"),
    errors.NotYet("first do that"),
    errors.Conflict("changed"),
    errors.Denied("no right"),
    errors.Unauthenticated("who"),
    errors.Busy("full", retry_after_s=1.5),
    errors.Down("away", retry_after_s=0.25),
    errors.TooLate("it took too long"),
]


@pytest.mark.parametrize("refusal", _MADE, ids=lambda r: r.reason)
def test_a_refusal_comes_back_as_it_went(refusal: Refusal) -> None:
    back = decode_status(encode_refusal(refusal))
    assert back is not None
    assert (back.kind, back.reason, str(back)) == (refusal.kind, refusal.reason, str(refusal))
    assert (back.facts, back.retry_after_s) == (refusal.facts, refusal.retry_after_s)
    if isinstance(refusal, errors.Invalid):
        assert isinstance(back, errors.Invalid)
        assert back.violations == refusal.violations


def test_every_kind_has_one_code() -> None:
    assert set(CODES) == set(Kind)
    assert len(set(CODES.values())) == len(Kind)


def test_a_bug_is_no_refusal() -> None:
    assert decode_status(internal_status("a bug")) is None
