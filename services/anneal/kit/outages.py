"""Log lines about what is away: one when it goes, at most one a minute while it stays away, one when it is back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from anneal.kit import logs

REPEAT_S = 60.0


@dataclass(slots=True)
class _Outage:
    """What is away: since when, when that was logged last, and who has met it."""

    since: float
    logged: float
    by: set[str] = field(default_factory=set)


class Outages:
    """What of a process's surroundings is away. Several parts of the process may report the same; they share its lines.

    Safe to be used from several threads.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, _Outage] = {}
        self._lock = Lock()
        self._log = logs.logger("outages")

    def away(self, what: str, why: str, *, by: str) -> bool:
        """Report that something is away; returns whether that was logged now.

        Args:
            what: such as `database`.
            why: one line for whoever can mend it.
            by: which part of the process reports it; that one says when it is back.
        """
        with self._lock:
            now = self._clock()
            outage = self._known.get(what)
            is_new = outage is None
            if outage is None:
                outage = self._known[what] = _Outage(now, now)
            outage.by.add(by)
            if not is_new and now - outage.logged < REPEAT_S:
                return False
            outage.logged = now
        away_s = round(now - outage.since, 1)
        self._log.error("away" if is_new else "still away", what=what, why=why, away_s=away_s)
        return True

    def back(self, *, by: str, what: str | None = None) -> None:
        """Report that something works again; it is back when nobody reports it as away any more.

        Args:
            by: which part of the process reports it.
            what: as it was reported away; None for everything that this part has reported.
        """
        with self._lock:
            now = self._clock()
            ended = []
            for name, outage in list(self._known.items()):
                if what in (None, name) and by in outage.by:
                    outage.by.discard(by)
                    if not outage.by:
                        ended.append((name, now - self._known.pop(name).since))
        for name, away_s in ended:
            self._log.info("back", what=name, away_s=round(away_s, 1))
