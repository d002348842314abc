"""Which address a service, or a part of it, is reached at."""

from __future__ import annotations

import pytest

from anneal.kit.rpc.channels import Channels, address_of

ADDRESSES = {"registry": "r:1", "serving": "s:1", "serving/projects/p/models/m": "m:1"}


@pytest.mark.parametrize(
    ("service", "part", "address"),
    [
        ("registry", "", "r:1"),
        ("serving", "", "s:1"),
        ("serving", "projects/p/models/m", "m:1"),
        ("serving", "projects/p/models/other", "s:1"),
        ("registry", "projects/p/models/m", "r:1"),
    ],
)
def test_a_part_has_its_own_address_or_its_service_s(service: str, part: str, address: str) -> None:
    assert address_of(ADDRESSES, service, part) == address


def test_a_service_without_an_address_is_named() -> None:
    with pytest.raises(KeyError, match=r"no address is configured for the service 'curation' \(ANNEAL_ADDRESSES\)"):
        address_of(ADDRESSES, "curation")


async def test_one_channel_is_kept_for_each_address() -> None:
    channels = Channels(ADDRESSES)
    try:
        own = channels.get("serving", "projects/p/models/m")
        assert channels.get("serving", "projects/p/models/m") is own
        assert channels.get("serving") is channels.get("serving", "projects/p/models/other")
        assert channels.get("serving") is not own
    finally:
        await channels.close()
