from __future__ import annotations

import hashlib

import pytest
from pydantic import ValidationError

from anneal.gateway.domain.access import Caller, Key, caller_of, names_of, request_id_of
from anneal.gateway.domain.errors import HTTP, ModelMissing, describe
from anneal.gateway.settings import ApiKey, GatewayOptions
from anneal.kit.errors import Busy, Invalid, Kind, Unauthenticated

SECRET = "sk-anneal-1"
HASH = hashlib.sha256(SECRET.encode()).hexdigest()
KEYS = [Key("ci", HASH, "p")]


def test_without_keys_everybody_is_let_in() -> None:
    assert caller_of("", [], "default") == Caller("anybody", "default", bound=False)
    assert caller_of("Bearer anything", [], "default").project == "default"


def test_a_key_is_known_by_its_hash() -> None:
    assert caller_of(f"Bearer {SECRET}", KEYS, "default") == Caller("ci", "p", bound=True)
    assert caller_of(f"bearer {SECRET}", KEYS, "default").bound


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", f"Basic {SECRET}", f"Bearer {HASH}"])
def test_what_is_no_key_is_refused(header: str) -> None:
    with pytest.raises(Unauthenticated):
        caller_of(header, KEYS, "default")


def test_no_key_is_never_a_key() -> None:
    empty = Key("empty", hashlib.sha256(b"").hexdigest(), "p")
    for header in ("Bearer", "Bearer ", "Bearer  "):
        with pytest.raises(Unauthenticated):
            caller_of(header, [empty], "default")


def test_a_short_name_may_be_a_deployment_or_a_model() -> None:
    caller = Caller("x", "p", bound=True)
    assert names_of("kind", caller) == ["projects/p/deployments/kind", "projects/p/models/kind"]
    assert names_of("projects/p/models/tiny", caller) == ["projects/p/models/tiny"]


def test_another_project_is_out_of_reach_of_a_key_and_looks_missing() -> None:
    with pytest.raises(ModelMissing):
        names_of("projects/q/models/tiny", Caller("x", "p", bound=True))
    assert names_of("projects/q/models/tiny", Caller("x", "p", bound=False)) == ["projects/q/models/tiny"]


def test_a_request_id_that_could_break_a_log_is_replaced() -> None:
    assert request_id_of("abc-1", "fresh") == "abc-1"
    assert request_id_of("a\nb", "fresh") == "fresh"
    assert request_id_of("", "fresh") == "fresh"
    assert request_id_of("x" * 129, "fresh") == "fresh"


def test_outside_loopback_keys_are_needed() -> None:
    with pytest.raises(ValidationError, match="reachable from outside"):
        GatewayOptions(host="0.0.0.0")
    GatewayOptions(host="0.0.0.0", keys=(ApiKey(name="ci", sha256=HASH),))
    GatewayOptions(host="::1")


def test_every_kind_has_a_status() -> None:
    assert set(HTTP) == set(Kind)


def test_refusals_speak_openais_words() -> None:
    status, body = describe(Invalid.field("sampling.json_schema", "is wrong"))
    assert (status, body["error"]["param"], body["error"]["type"]) == (400, "response_format", "invalid_request_error")
    status, body = describe(ModelMissing("no"))
    assert (status, body["error"]["code"], body["error"]["param"]) == (404, "model_not_found", None)
    assert describe(Busy("later"))[0] == 429
