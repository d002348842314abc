"""Waiting for an endpoint that is away, such as one that is started again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from anneal.curation.domain.errors import EncoderAway
from anneal.kit import logs

PAUSE_S = 5.0

_T = TypeVar("_T")


def ask_until_back(ask: Callable[[], _T], away_s: float) -> _T:
    """The answer of an endpoint that may be away for up to `away_s` seconds.

    Raises:
        EncoderAway: it was away for longer.
    """
    until = time.monotonic() + away_s
    while True:
        try:
            return ask()
        except EncoderAway as error:
            left = until - time.monotonic()
            if left <= 0:
                raise
            logs.logger("endpoints").warning("waiting for an endpoint", text=str(error))
        time.sleep(min(left, PAUSE_S * random.uniform(0.5, 1.0)))
