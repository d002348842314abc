"""How many RPCs a server handles at once: load that is refused early leaves room for what was accepted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from anneal.kit.errors import Busy

RETRY_AFTER_S = 1.0


class ServerBusy(Busy):
    """The server handles as many RPCs as it may."""

    reason = "SERVER_BUSY"


class Slots:
    """So many RPCs at once; one more is refused, never kept waiting."""

    def __init__(self, limit: int, what: str) -> None:
        """Make them.

        Args:
            limit: how many there are.
            what: what takes them, in the plural, for the refusal.
        """
        self._limit, self._what = limit, what
        self._taken = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold one.

        Raises:
            ServerBusy: none is left.
        """
        if self._taken >= self._limit:
            raise ServerBusy(
                f"this server handles {self._limit} {self._what} already",
                retry_after_s=RETRY_AFTER_S,
                limit=str(self._limit),
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
