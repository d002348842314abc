"""Whether a process lives and may be sent requests: what the probes of a cluster ask, over plain HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from anneal.kit.errors import BackendFault, NotReady
from anneal.kit.outages import Outages

STUCK_S = 60.0
"""A process whose event loop has not run for this long lives no more. Importing torch takes a third of it."""
PULSE_S = 1.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 15.0
_STARTING = "starting"


class Readiness:
    """What this process says of itself. Reasons that stand against requests are kept by who gave them."""

    def __init__(self, outages: Outages | None = None) -> None:
        self._against: dict[str, str] = {"start": _STARTING}
        self._beat_at = time.monotonic()
        self._beating: asyncio.Task[None] | None = None
        self._outages = outages or Outages()

    def begin(self) -> None:
        """Watch the running event loop from now on."""
        self._beating = asyncio.get_running_loop().create_task(self._beat())

    async def end(self) -> None:
        """Not ready any more, and not watched."""
        self.object_to("start", "stopping")
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)

    def object_to(self, who: str, why: str) -> None:
        """Have a reason against requests; another one of the same `who` is replaced."""
        self._against[who] = why

    def clear(self, who: str) -> None:
        """Have none any more."""
        self._against.pop(who, None)

    @property
    def who(self) -> set[str]:
        """Who has a reason against requests."""
        return set(self._against)

    @property
    def reasons(self) -> list[str]:
        """Why no requests should come now; empty when they may."""
        return list(self._against.values())

    def live(self) -> tuple[bool, str]:
        """Whether the process works, and a line about it."""
        silent_s = time.monotonic() - self._beat_at
        alive = self._beating is None or silent_s < STUCK_S
        return alive, "alive" if alive else f"the event loop has stood still for {silent_s:.0f} s"

    def ready(self) -> tuple[bool, str]:
        """Whether requests may come, and a line about it."""
        return not self._against, "; ".join(self.reasons) or "ready"

    async def wait_for(self, who: str, attempt: Callable[[], Awaitable[None]]) -> None:
        """Try until it goes, with growing pauses. A process that waits says why, and stays.

        Args:
            who: the reason's name.
            attempt: raises `NotReady` or `BackendFault` when it must be tried again.
        """
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await attempt()
            except (NotReady, BackendFault) as missing:
                self.object_to(who, str(missing))
                what = missing.backend if isinstance(missing, BackendFault) else who
                self._outages.away(what, str(missing), by=who)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            else:
                self.clear(who)
                self._outages.back(by=who)
                return

    async def _beat(self) -> None:
        while True:
            self._beat_at = time.monotonic()
            await asyncio.sleep(PULSE_S)
