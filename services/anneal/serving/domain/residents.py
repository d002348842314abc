"""Which adapters are in an engine: least recently used goes first, one that answers never goes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class Resident:
    """An adapter in an engine.

    Attributes:
        digest: the adapter.
        slot: the engine's number for it.
        load_time_s: when it was loaded, in seconds since 1970.
        load_seconds: how long fetching, checking and loading took.
        pins: requests it answers right now.
    """

    digest: str
    slot: int
    load_time_s: float
    load_seconds: float
    pins: int = 0


class Residents:
    """At most `capacity` adapters, ordered by last use. It decides; loading is its caller's work."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("capacity must be at least 1")
        self.capacity = capacity
        self._by_digest: OrderedDict[str, Resident] = OrderedDict()
        self._last_slot = 0

    def __len__(self) -> int:
        return len(self._by_digest)

    def __iter__(self) -> Iterator[Resident]:
        """Most recently used first."""
        return reversed(self._by_digest.values())

    def get(self, digest: str) -> Resident | None:
        """The adapter when it is here; looking does not count as use."""
        return self._by_digest.get(digest)

    def next_slot(self) -> int:
        """A number no adapter of this engine has had: an engine may keep state by number."""
        self._last_slot += 1
        return self._last_slot

    def victim(self) -> Resident | None:
        """Who must go before one more fits; None while there is room.

        Raises:
            LookupError: there is no room and every adapter answers a request.
        """
        if len(self._by_digest) < self.capacity:
            return None
        for resident in self._by_digest.values():
            if not resident.pins:
                return resident
        raise LookupError("every adapter is in use")

    def add(self, resident: Resident) -> None:
        """Note an adapter that was loaded, as the most recently used one."""
        if resident.digest in self._by_digest or len(self._by_digest) >= self.capacity:
            raise ValueError("no room, or already here")
        self._by_digest[resident.digest] = resident

    def pin(self, digest: str) -> Resident:
        """Hold an adapter for one request and count it as used now."""
        resident = self._by_digest[digest]
        resident.pins += 1
        self._by_digest.move_to_end(digest)
        return resident

    def unpin(self, resident: Resident) -> None:
        """Let go of it. An adapter that left meanwhile, with its engine, is let go of as well."""
        resident.pins -= 1

    def remove(self, digest: str) -> None:
        """Forget an adapter that was unloaded."""
        del self._by_digest[digest]
