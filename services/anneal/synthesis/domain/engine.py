"""One engine for all generators: it asks the teacher within the budget, and checks what comes out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from typing import Any

from anneal.synthesis.domain.generators import Generator
from anneal.synthesis.domain.grounding import grounding
from anneal.synthesis.domain.ledger import BudgetSpent, Ledger
from anneal.synthesis.domain.novelty import NoveltyIndex
from anneal.synthesis.domain.rows import MAX_RAW_CHARACTERS, Draft, Malformed, Outcome, Removed
from anneal.synthesis.domain.teacher import (
    Attempts,
    Call,
    CallRefused,
    Question,
    Reply,
    Sampling,
    Teacher,
    TeacherBusy,
    TeacherRefused,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Classroom:
    """A teacher with everything around it.

    Attributes:
        overhead_tokens: the most tokens the teacher's own template adds to a prompt.
        concurrency: calls under way at once.
    """

    teacher: Teacher
    model: str
    sampling: Sampling
    ledger: Ledger
    attempts: Attempts
    concurrency: int
    overhead_tokens: int

    async def ask(self, call: Call) -> Reply | Malformed | None:
        """The answer, a refusal of this one call, or None when the budget cannot bear it.

        Raises:
            TeacherBusy, TeacherLost: no attempt succeeded.
            TeacherRefused: no call ever would.
        """
        paid = self.ledger.answered(call.key)
        if paid is not None:
            return paid
        try:
            async for attempt in self.attempts():
                with attempt:
                    return await self._attempt(call)
        except BudgetSpent:
            self.ledger.spending.not_asked += 1
            return None
        except CallRefused as error:
            passage = call.question.passage
            raw = call.question.messages[-1].content[:MAX_RAW_CHARACTERS]
            return Malformed(
                file=passage.document.source,
                byte_offset=passage.byte_offset,
                cause="teacher_refused",
                reason=str(error),
                raw=raw,
            )
        raise AssertionError("the last attempt neither returned nor raised")

    async def _attempt(self, call: Call) -> Reply:
        reservation = await self.ledger.reserve(call.key, call.tokens_bound(self.overhead_tokens))
        try:
            reply = await self.teacher.complete(call)
        except (TeacherBusy, CallRefused, TeacherRefused):
            await reservation.give_back()
            raise
        except (Exception, asyncio.CancelledError):
            await reservation.lose()
            raise
        await reservation.settle(reply)
        return reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What every row passes before it counts.

    Attributes:
        min_grounding: lowest share of an answer's words that its evidence must contain; inclusive.
        identify: the id a row will have.
    """

    novelty: NoveltyIndex
    min_grounding: float
    identify: Callable[[Draft], str]

    def __call__(self, draft: Draft) -> Draft | Removed:
        """The row with its scores, or why it stays out."""
        if draft.evidence:
            share = grounding(draft.answer, draft.evidence)
            draft = draft.scored(grounding=share)
            if share < self.min_grounding:
                numbers = {"grounding": share, "min_grounding": self.min_grounding}
                return Removed(draft=draft, step="grounding", reason="not_grounded", numbers=numbers)
        familiar = self.novelty.familiar(draft.fresh)
        if familiar is not None:
            return Removed(
                draft=draft,
                step="novelty",
                reason="duplicate" if familiar.duplicate_of else "not_novel",
                numbers={"overlap": familiar.overlap, "max_overlap": self.novelty.max_overlap},
                duplicate_of=familiar.duplicate_of,
            )
        self.novelty.add(draft.fresh, self.identify(draft))
        return draft


async def synthesize(
    generator: Generator, rows: Iterable[Mapping[str, Any]], checks: Checks, classroom: Classroom | None = None
) -> AsyncGenerator[Outcome, None]:
    """Everything the generator makes of the rows, checked, in the order of the input.

    The order never depends on which call ends first, so equal answers make equal datasets.
    """
    async with aclosing(_answered(generator, generator.propose(rows), classroom)) as answered:
        async for found in answered:
            yield checks(found) if isinstance(found, Draft) else found


async def _answered(
    generator: Generator, proposals: Iterator[Outcome | Question], classroom: Classroom | None
) -> AsyncGenerator[Outcome, None]:
    waiting: deque[Outcome | tuple[Call, asyncio.Task[Reply | Malformed | None]]] = deque()
    under_way = 0
    try:
        for proposal in proposals:
            if isinstance(proposal, Question):
                if classroom is None:
                    raise ValueError("this generator needs a teacher")
                call = Call(model=classroom.model, sampling=classroom.sampling, question=proposal)
                waiting.append((call, asyncio.create_task(classroom.ask(call))))
                under_way += 1
            else:
                waiting.append(proposal)
            while waiting and (not isinstance(waiting[0], tuple) or under_way >= classroom_width(classroom)):
                under_way -= isinstance(waiting[0], tuple)
                async for outcome in _resolve(generator, waiting[0], classroom):
                    yield outcome
                waiting.popleft()
        while waiting:
            async for outcome in _resolve(generator, waiting[0], classroom):
                yield outcome
            waiting.popleft()
    finally:
        await _cancel([item[1] for item in waiting if isinstance(item, tuple)])


def classroom_width(classroom: Classroom | None) -> int:
    """How many calls may be under way."""
    return classroom.concurrency if classroom else 1


async def _resolve(
    generator: Generator,
    item: Outcome | tuple[Call, asyncio.Task[Reply | Malformed | None]],
    classroom: Classroom | None,
) -> AsyncIterator[Outcome]:
    if not isinstance(item, tuple):
        yield item
        return
    call, task = item
    reply = await task
    if isinstance(reply, Malformed):
        yield reply
    elif reply is not None:
        found, repaired = generator.read(call, reply)
        if classroom:
            classroom.ledger.spending.repaired += repaired
        for outcome in found:
            yield _with_provenance(outcome, call, reply)


def _with_provenance(outcome: Outcome, call: Call, reply: Reply) -> Outcome:
    if not isinstance(outcome, Draft):
        return outcome
    origin = {
        **outcome.origin,
        "teacher": {"asked": call.model, "answered": reply.model},
        "prompt_digest": call.prompt_digest,
        "sampling": {**asdict(call.sampling), "seed": call.seed},
        "call": call.key,
    }
    return replace(outcome, origin=origin)


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
