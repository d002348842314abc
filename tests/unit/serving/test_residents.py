from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.serving.domain.residents import Resident, Residents


def put(residents: Residents, digest: str) -> Resident:
    resident = Resident(digest, residents.next_slot(), load_time_s=0.0, load_seconds=0.0)
    residents.add(resident)
    return resident


def victim(residents: Residents) -> str | None:
    found = residents.victim()
    return None if found is None else found.digest


def digests(residents: Residents) -> list[str]:
    return [resident.digest for resident in residents]


def test_nobody_goes_while_there_is_room() -> None:
    residents = Residents(2)
    put(residents, "a")
    assert victim(residents) is None
    put(residents, "b")
    assert victim(residents) == "a"


def test_the_least_recently_used_goes() -> None:
    residents = Residents(2)
    put(residents, "a")
    put(residents, "b")
    residents.unpin(residents.pin("a"))
    assert victim(residents) == "b"
    assert digests(residents) == ["a", "b"]


def test_who_answers_never_goes() -> None:
    residents = Residents(2)
    put(residents, "a")
    put(residents, "b")
    pin = residents.pin("a")
    residents.pin("b")
    with pytest.raises(LookupError):
        residents.victim()
    residents.unpin(pin)
    assert victim(residents) == "a"


def test_looking_is_no_use() -> None:
    residents = Residents(2)
    put(residents, "a")
    put(residents, "b")
    residents.get("a")
    assert victim(residents) == "a"


def test_a_slot_is_never_used_twice() -> None:
    residents = Residents(1)
    first = put(residents, "a")
    residents.remove("a")
    assert put(residents, "a").slot > first.slot


def test_there_is_no_room_beyond_capacity() -> None:
    residents = Residents(1)
    put(residents, "a")
    with pytest.raises(ValueError, match="room"):
        put(residents, "b")
    with pytest.raises(ValueError, match="at least 1"):
        Residents(0)


@given(st.lists(st.sampled_from("abcdef")), st.integers(1, 4))
def test_it_behaves_as_a_list_in_order_of_use(uses: list[str], capacity: int) -> None:
    residents = Residents(capacity)
    model: list[str] = []
    for digest in uses:
        if residents.get(digest) is None:
            if (goes := victim(residents)) is not None:
                assert goes == model.pop(0)
                residents.remove(goes)
            put(residents, digest)
        else:
            model.remove(digest)
        residents.unpin(residents.pin(digest))
        model.append(digest)
        assert digests(residents) == model[::-1]
        assert len(residents) <= capacity
