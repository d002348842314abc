"""Budget and memory of a run's teacher calls: never more tokens than ordered, and nothing is paid twice.

Every call is written down before it is made and again when it is over. After a kill the journal tells
what was paid; a call without an end counts with its whole price, because unknown is not zero.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from anneal.synthesis.domain.teacher import Reply


class Journal(Protocol):
    """An append-only list of events that survives a kill."""

    def read(self) -> Iterable[dict[str, Any]]:
        """Every event in order; a last one that was cut off by a kill is left out."""
        ...

    def append(self, event: dict[str, Any]) -> None:
        """Return when the event is on disk."""
        ...


class BudgetSpent(Exception):
    """The call could cost more than what is left of the budget."""


@dataclass(slots=True, kw_only=True)
class Spending:
    """Where the tokens of a run went, attempts before a restart included.

    Attributes:
        assumed_tokens: part of `spent_tokens` nobody reported: lost calls, endpoints that do not count.
        prompt_tokens, completion_tokens: what the endpoint reported of the answered calls.
        calls: answered calls that cost something.
        reused: answers taken from the journal instead of asking again.
        failed_attempts: attempts that brought no answer, refused ones included.
        not_asked: calls the budget could not bear.
        repaired: answers whose JSON had to be mended.
    """

    budget_tokens: int
    spent_tokens: int = 0
    assumed_tokens: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    reused: int = 0
    failed_attempts: int = 0
    not_asked: int = 0
    repaired: int = 0


class Ledger:
    """The account of one job."""

    def __init__(self, budget_tokens: int, journal: Journal) -> None:
        self.spending = Spending(budget_tokens=budget_tokens)
        self._journal = journal
        self._held = 0
        self._margin = 0
        self._number = 0
        self._changed = asyncio.Condition()
        self._replies: dict[str, Reply] = {}
        self._recall()

    def answered(self, key: str) -> Reply | None:
        """The answer to a call that is already paid."""
        reply = self._replies.get(key)
        self.spending.reused += reply is not None
        return reply

    async def reserve(self, key: str, tokens: int) -> Reservation:
        """Set tokens aside, waiting for calls under way to give back what they do not need.

        An endpoint that once took more than was set aside gets that much more for every later call.

        Raises:
            BudgetSpent: not even then would there be enough.
        """
        async with self._changed:
            tokens += self._margin
            while self._left < tokens:
                if not self._held:
                    raise BudgetSpent(f"{tokens} tokens wanted, {self._left} left of {self.spending.budget_tokens}")
                await self._changed.wait()
            self._held += tokens
            self._number += 1
            self._journal.append({"event": "reserved", "number": self._number, "key": key, "tokens": tokens})
            return Reservation(self, self._number, key, tokens)

    async def close(self, number: int, key: str, held: int, *, spent: int, known: bool, reply: Reply | None) -> None:
        """End a reservation with what it cost."""
        async with self._changed:
            ended = {"event": "ended", "number": number, "key": key, "tokens": spent, "known": known}
            self._journal.append({**ended, "reply": asdict(reply) if reply else None})
            self._held -= held
            self._margin += max(0, spent - held)
            self._count(key, spent, known, reply)
            self._changed.notify_all()

    @property
    def _left(self) -> int:
        return self.spending.budget_tokens - self.spending.spent_tokens - self._held

    def _count(self, key: str, spent: int, known: bool, reply: Reply | None) -> None:
        self.spending.spent_tokens += spent
        self.spending.assumed_tokens += 0 if known else spent
        if reply is None:
            self.spending.failed_attempts += 1
        else:
            self.spending.calls += 1
            self.spending.prompt_tokens += reply.prompt_tokens or 0
            self.spending.completion_tokens += reply.completion_tokens or 0
            self._replies[key] = reply

    def _recall(self) -> None:
        open_calls: dict[int, dict[str, Any]] = {}
        for event in self._journal.read():
            self._number = max(self._number, event["number"])
            if event["event"] == "reserved":
                open_calls[event["number"]] = event
            else:
                open_calls.pop(event["number"], None)
                reply = Reply(**event["reply"]) if event["reply"] else None
                self._count(event["key"], event["tokens"], event["known"], reply)
        for number, event in open_calls.items():
            self._journal.append({**event, "event": "ended", "number": number, "known": False, "reply": None})
            self._count(event["key"], event["tokens"], False, None)


class Reservation:
    """Tokens set aside for one attempt; exactly one of its methods ends it."""

    def __init__(self, ledger: Ledger, number: int, key: str, tokens: int) -> None:
        self._ledger, self._number, self._key, self._tokens = ledger, number, key, tokens

    async def settle(self, reply: Reply) -> None:
        """Pay what the teacher reports, or the whole price where it reports nothing."""
        known = reply.tokens is not None
        await self._close(reply.tokens if reply.tokens is not None else self._tokens, known, reply)

    async def lose(self) -> None:
        """Pay the whole price of a call that broke off."""
        await self._close(self._tokens, False, None)

    async def give_back(self) -> None:
        """Pay nothing: the teacher did not start."""
        await self._close(0, True, None)

    async def _close(self, spent: int, known: bool, reply: Reply | None) -> None:
        await self._ledger.close(self._number, self._key, self._tokens, spent=spent, known=known, reply=reply)
