"""Attempts with exponential backoff; what a busy teacher says about waiting goes first."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType

from anneal.synthesis.domain.teacher import TeacherBusy, TeacherLost


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How often and how fast a call is asked again.

    Attributes:
        most: attempts in all, the first included.
        first_s: wait before the second attempt; every further one doubles it.
        max_s: longest wait, also when the teacher asks for more.
        away_s: longest that a teacher that takes no calls is asked again since the first such failure of a call; these
            tries cost nothing and are no attempts.
        report: receives a line that says what is waited for, and an empty text when the wait is over.
    """

    most: int = 6
    first_s: float = 0.5
    max_s: float = 30.0
    away_s: float = 0.0
    report: Callable[[str], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = field(default=random.random)

    async def __call__(self) -> AsyncIterator[_Attempt]:
        """One context per attempt."""
        tries = attempts = 0
        away_until: float | None = None
        while True:
            is_away_allowed = self.clock() < away_until if away_until is not None else self.away_s > 0
            answered = self.report if away_until is not None else None
            attempt = _Attempt(is_last=attempts + 1 >= self.most, waits=is_away_allowed, answered=answered)
            yield attempt
            if attempt.failure is None:
                return
            tries += 1
            if isinstance(attempt.failure, TeacherBusy) and is_away_allowed:
                away_until = self.clock() + self.away_s if away_until is None else away_until
                self.report(f"waiting for the teacher: {attempt.failure}")
            else:
                attempts += 1
            await self.sleep(self.wait_s(tries, attempt.failure))

    def wait_s(self, failed: int, failure: Exception) -> float:
        """Seconds to wait after so many failed attempts: half fixed, half random, so that callers spread out."""
        asked = failure.retry_after_s if isinstance(failure, TeacherBusy) else None
        if asked is not None:
            return min(max(asked, 0.0), self.max_s)
        full = min(self.first_s * 2.0 ** min(failed - 1, 16), self.max_s)
        return full * (0.5 + 0.5 * self.jitter())


class _Attempt:
    """Keeps a passing failure for the next attempt; the last one lets it out, unless the teacher is waited for."""

    def __init__(self, *, is_last: bool, waits: bool, answered: Callable[[str], None] | None) -> None:
        self._is_last, self._waits, self._answered = is_last, waits, answered
        self.failure: Exception | None = None

    def __enter__(self) -> _Attempt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None and self._answered is not None:
            self._answered("")
        is_kept = not self._is_last or (self._waits and isinstance(error, TeacherBusy))
        if isinstance(error, TeacherBusy | TeacherLost) and is_kept:
            self.failure = error
            return True
        return False
