"""Asks judges many questions at once: each at most so many at a time, each question at most so often, none twice."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from anneal.curation.adapters.judges.answer_log import AnswerLog
from anneal.curation.adapters.judges.openai_judge import OpenAIJudge, Unanswered
from anneal.curation.domain.errors import JudgeRefused
from anneal.curation.domain.judges import JUDGE_DOWN, Judge, Question, Reply, Silence

CANCEL_POLL_S = 0.2
MAX_SILENT = 20
"""Questions in a row that a judge leaves unanswered before it is given up until the next batch."""

AWAY = frozenset(("judge_busy", "judge_unreachable"))
"""Causes that say that the judge took no question: asking again costs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long and how often a judge is asked.

    Attributes:
        timeout_s: longest wait for one answer.
        attempts: attempts per question, the first included.
        first_wait_s: wait before the second attempt; every further one doubles it.
        max_wait_s: longest wait, also where the endpoint asks for more.
        away_s: longest that a judge without a free place or without a server is asked again since its last answer;
            these tries are no attempts. A judge that stays away is waited for once in a job, not at every question.
    """

    timeout_s: float = 60.0
    attempts: int = 4
    first_wait_s: float = 0.5
    max_wait_s: float = 60.0
    away_s: float = 0.0

    def wait_s(self, failed: int, retry_after_s: float | None) -> float:
        """Seconds to wait after so many failed attempts: what was asked, else half fixed and half random."""
        if retry_after_s is not None:
            return min(retry_after_s, self.max_wait_s)
        full = min(self.first_wait_s * 2.0 ** (failed - 1), self.max_wait_s)
        return full * (0.5 + 0.5 * random.random())


@dataclass(slots=True)
class _Queue:
    """What one judge has still to answer, and how many questions in a row it has not."""

    questions: Iterator[Question]
    silent: int = 0


@dataclass(slots=True)
class _Round:
    """One call of `ask`: the answers by key, and what they cost."""

    found: dict[str, Reply | Silence] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)


class Panel:
    """Judges of a job, with the log of what they said."""

    def __init__(
        self,
        log: AnswerLog,
        patience: Patience,
        *,
        check: Callable[[], None],
        count: Callable[..., None],
        waiting: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make the panel.

        Args:
            log: of this job.
            patience: how long to wait.
            check: raises when the job shall stop; called often.
            count: adds to a counter, as `JobContext.count`: `answers` by outcome, `tokens` by use.
            waiting: says what is waited for, as `JobContext.waiting`.
        """
        self._log, self._patience = log, patience
        self._check, self._count, self._waiting = check, count, waiting
        self._away_since: dict[Judge, float] = {}

    def ask(self, questions: Sequence[Question], concurrency: int) -> list[Reply | Silence]:
        """One answer per question, in their order; equal questions are asked once.

        A question that brought no answer is not in the log: the next attempt of the job asks it again.

        Raises:
            JudgeRefused: a judge refuses every call, or its key is not there.
        """
        this = _Round()
        queues: dict[Judge, dict[str, Question]] = {}
        for question in questions:
            if question.key in this.found:
                continue
            paid = self._log.get(question.key)
            if paid is None:
                queues.setdefault(question.judge, {})[question.key] = question
            else:
                this.found[question.key] = paid
                this.answers["reused"] += 1
        try:
            if queues:
                asyncio.run(self._ask_all(queues, concurrency, this))
        finally:
            for outcome, number in sorted(this.answers.items()):
                self._count("answers", number, outcome=outcome)
            for use, number in sorted(this.tokens.items()):
                self._count("tokens", number, use=use)
        return [this.found[question.key] for question in questions]

    async def _ask_all(self, queues: dict[Judge, dict[str, Question]], concurrency: int, this: _Round) -> None:
        async with AsyncExitStack() as stack:
            workers: set[asyncio.Task[None]] = set()
            for judge, questions in queues.items():
                client = OpenAIJudge(judge, api_key=_key_of(judge), timeout_s=self._patience.timeout_s)
                await stack.enter_async_context(client)
                queue = _Queue(iter(questions.values()))
                for _ in range(min(concurrency, len(questions))):
                    workers.add(asyncio.create_task(self._work(client, queue, this)))
            stack.push_async_callback(_cancel, list(workers))
            while workers:
                done, workers = await asyncio.wait(workers, timeout=CANCEL_POLL_S, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
                self._check()

    async def _work(self, client: OpenAIJudge, queue: _Queue, this: _Round) -> None:
        for question in queue.questions:
            if queue.silent >= MAX_SILENT:
                this.found[question.key] = Silence(JUDGE_DOWN)
                continue
            try:
                reply = await self._patiently(client, question, this)
            except Unanswered as error:
                this.found[question.key] = Silence(error.cause)
                this.answers["unanswered"] += 1
                queue.silent = 0 if error.is_final else queue.silent + 1
                continue
            queue.silent = 0
            self._log.add(question.key, reply)
            this.found[question.key] = reply
            this.answers["calls"] += 1
            this.tokens["prompt"] += reply.prompt_tokens or 0
            this.tokens["completion"] += reply.completion_tokens or 0

    async def _patiently(self, client: OpenAIJudge, question: Question, this: _Round) -> Reply:
        tries = attempts = 0
        while True:
            try:
                reply = await client.complete(question)
            except Unanswered as error:
                tries += 1
                this.answers["failed_attempts"] += 1
                if error.is_final:
                    raise
                if not self._is_waited_for(question.judge, error):
                    attempts += 1
                    if attempts >= self._patience.attempts:
                        raise
                wait_s = self._patience.wait_s(tries, error.retry_after_s)
            else:
                if self._away_since.pop(question.judge, None) is not None:
                    self._waiting("")
                return reply
            await asyncio.sleep(wait_s)

    def _is_waited_for(self, judge: Judge, error: Unanswered) -> bool:
        """Whether a judge is away, and not for too long."""
        if error.cause not in AWAY:
            return False
        now = time.monotonic()
        if now - self._away_since.setdefault(judge, now) >= self._patience.away_s:
            return False
        self._waiting(f"waiting for {judge.called} at {judge.host}: {error.cause}")
        return True


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _key_of(judge: Judge) -> str:
    if not judge.api_key_env:
        return ""
    key = os.environ.get(judge.api_key_env, "")
    if not key:
        raise JudgeRefused(
            f"the variable {judge.api_key_env} is not set where the job runs: set it to the key of {judge.called}",
            judge=judge.called,
        )
    return key
