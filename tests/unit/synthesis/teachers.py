"""A scripted teacher, a journal in memory and the small parts an engine test needs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from anneal.synthesis.domain.engine import Checks, Classroom, synthesize
from anneal.synthesis.domain.generators.backtranslate import Backtranslate
from anneal.synthesis.domain.ledger import Ledger
from anneal.synthesis.domain.novelty import NoveltyIndex
from anneal.synthesis.domain.rows import Draft, Outcome, digest
from anneal.synthesis.domain.teacher import Call, Reply, Sampling, TeacherBusy, TeacherLost


class MemoryJournal:
    """Events in a list; `copy` is what a restarted process would read."""

    def __init__(self, events: Iterable[dict[str, Any]] = ()) -> None:
        self.events = [dict(event) for event in events]

    def read(self) -> list[dict[str, Any]]:
        return list(self.events)

    def append(self, event: dict[str, Any]) -> None:
        self.events.append(json.loads(json.dumps(event)))

    def copy(self) -> MemoryJournal:
        return MemoryJournal(self.events)


Script = Callable[[Call, int], Reply | Exception]


class ScriptedTeacher:
    """Answers by a function of the call and how often it was asked; the first answers come last.

    It thinks for a minute about calls that are `slow`.
    """

    def __init__(self, script: Script, *, slow: Callable[[Call], bool] = lambda call: False) -> None:
        self._script = script
        self._slow = slow
        self.asked: list[str] = []
        self.under_way = self.most_under_way = 0

    async def complete(self, call: Call) -> Reply:
        self.asked.append(call.key)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(60 if self._slow(call) else 0.002 / len(self.asked))
        self.under_way -= 1
        found = self._script(call, self.asked.count(call.key))
        if isinstance(found, Exception):
            raise found
        return found


def reply(*pairs: tuple[str, str], text: str | None = None, prompt: int | None = 30, **more: Any) -> Reply:
    written = json.dumps({"pairs": [{"instruction": one, "answer": two} for one, two in pairs]})
    tokens = {"prompt_tokens": prompt, "completion_tokens": None if prompt is None else 20}
    fields = {"text": written if text is None else text, "finish_reason": "stop", "model": "real-name", **tokens}
    return Reply(**{**fields, **more})


def attempts(most: int = 3) -> Callable[[], AsyncIterator[AbstractContextManager[Any]]]:
    """Retries at once, `most` attempts in all."""

    async def each() -> AsyncIterator[AbstractContextManager[Any]]:
        for number in range(most):
            yield _forgiving(is_last=number == most - 1)

    return each


@contextmanager
def _forgiving(*, is_last: bool) -> Iterator[None]:
    try:
        yield
    except (TeacherBusy, TeacherLost):
        if is_last:
            raise


def classroom(teacher: ScriptedTeacher, journal: MemoryJournal, *, budget: int = 100_000, **more: Any) -> Classroom:
    sampling = Sampling(temperature=0.0, max_tokens=100, seed=7)
    parts: dict[str, Any] = {"concurrency": 4, "overhead_tokens": 10, "attempts": attempts(), **more}
    return Classroom(teacher=teacher, model="teacher-1", sampling=sampling, ledger=Ledger(budget, journal), **parts)


def checks(max_overlap: float = 1.0, min_grounding: float = 0.0) -> Checks:
    novelty = NoveltyIndex(max_overlap=max_overlap, ngram=3)
    return Checks(novelty=novelty, min_grounding=min_grounding, identify=identify)


def identify(draft: Draft) -> str:
    return digest([message.content for message in draft.messages])


async def run(
    room: Classroom | None, rows: list[dict[str, Any]], *, check: Checks | None = None, **params: Any
) -> list[Outcome]:
    generator = Backtranslate.model_validate({"over": "spans", "min_extract_characters": 1, "pairs": 2, **params})
    return [one async for one in synthesize(generator, rows, check or checks(), room)]
