"""Attempts with exponential backoff; what a busy teacher says about waiting goes first."""

from __future__ import annotations

import asyncio
import random
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
    """

    most: int = 6
    first_s: float = 0.5
    max_s: float = 30.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = field(default=random.random)

    async def __call__(self) -> AsyncIterator[_Attempt]:
        """One context per attempt."""
        for number in range(1, self.most + 1):
            attempt = _Attempt(is_last=number == self.most)
            yield attempt
            if attempt.failure is not None:
                await self.sleep(self.wait_s(number, attempt.failure))

    def wait_s(self, failed: int, failure: Exception) -> float:
        """Seconds to wait after so many failed attempts: half fixed, half random, so that callers spread out."""
        asked = failure.retry_after_s if isinstance(failure, TeacherBusy) else None
        if asked is not None:
            return min(max(asked, 0.0), self.max_s)
        full = min(self.first_s * 2.0 ** (failed - 1), self.max_s)
        return full * (0.5 + 0.5 * self.jitter())


class _Attempt:
    """Keeps a passing failure for the next attempt; the last one lets it out."""

    def __init__(self, *, is_last: bool) -> None:
        self._is_last = is_last
        self.failure: Exception | None = None

    def __enter__(self) -> _Attempt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, TeacherBusy | TeacherLost) and not self._is_last:
            self.failure = error
            return True
        return False
