"""How a deployment's requests are split between its version and the canary."""

from __future__ import annotations

import hashlib

from anneal.kit.errors import Invalid


def side_of(deployment: str, split_key: str) -> int:
    """A number from 0 to 99 that the deployment and the key fix for ever, spread evenly over keys.

    Two deployments split the same keys independently of each other.
    """
    state = hashlib.sha256(f"{deployment}\n{split_key}".encode()).digest()
    return int.from_bytes(state[:8], "big") % 100


def is_canary(side: int, percent: int) -> bool:
    """Whether the canary answers. Raising the percentage moves keys to the canary and none away from it."""
    return side < percent


def check_percent(percent: int, field: str) -> int:
    """The share itself, when it is a share.

    Raises:
        Invalid: it is not 1 to 99; 0 and 100 are no split.
    """
    if not 1 <= percent <= 99:
        raise Invalid.field(field, f"{percent} is not 1 to 99")
    return percent
