"""Rows from prompt templates over spans, sections, documents or structured rows; no model needed.

The references come from the documents' own markup, so every row can be answered from its own input.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from anneal.synthesis.domain.documents import Passage, read_passages
from anneal.synthesis.domain.rows import (
    MAX_RAW_CHARACTERS,
    Draft,
    Malformed,
    Message,
    Outcome,
    Removed,
    digest,
)
from anneal.synthesis.domain.tasks import Task, stands_in
from anneal.synthesis.domain.teacher import Call, Reply
from anneal.synthesis.domain.templating import BadTemplate


class Template(BaseModel):
    """Fills the templates of each task with every passage that meets the task's conditions."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    needs_teacher: ClassVar[bool] = False

    tasks: Annotated[tuple[Task, ...], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _names_differ(self) -> Template:
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError("two tasks have the same name")
        return self

    def propose(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Outcome]:
        """The rows of every task; rows of a task that samples come last, in the order of the input."""
        samples = {task.name: Sample(task) for task in self.tasks if task.max_rows or task.max_rows_per_label}
        overs = sorted({task.over for task in self.tasks})
        for row in rows:
            for over in overs:
                found = read_passages(row, over)
                if isinstance(found, Malformed):
                    yield found
                    break
                for passage in found:
                    for task in self.tasks:
                        if task.over is over and task.where.holds(passage):
                            yield from _offer(render(task, passage), samples.get(task.name))
        for sample in samples.values():
            yield from sample.finish()

    def read(self, call: Call, reply: Reply) -> tuple[list[Outcome], bool]:
        """Never called: templates ask nobody."""
        raise NotImplementedError("template has no teacher")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A rendered row with what sampling needs: its class and its place in a shuffle that never changes."""

    draft: Draft
    label: str
    rank: int


def render(task: Task, passage: Passage) -> Candidate | Removed | Malformed:
    """One passage put as this task; the phrasing is chosen by the digest of the place."""
    rank = int(digest([task.name, passage.document.id, passage.start, passage.name]), 16)
    fields = task.fields(passage)
    phrasing = rank % len(task.prompts)
    try:
        prompt = task.compiled[task.prompts[phrasing]].render(fields)
        answer = task.compiled[task.answer].render(fields)
        system = task.compiled[task.system].render(fields) if task.system else ""
        label = task.compiled[task.label].render(fields) if task.label else ""
    except BadTemplate as error:
        return Malformed(
            file=passage.document.source,
            byte_offset=passage.byte_offset,
            cause="template_failed",
            reason=f"task {task.name!r}: {error}",
            raw=passage.entry[:MAX_RAW_CHARACTERS],
        )
    draft = Draft(
        messages=(
            *([Message("system", system)] if system else []),
            Message("user", prompt),
            Message("assistant", answer),
        ),
        source=passage.document.source,
        parents=(passage.document.id,),
        origin={
            "generator": "template",
            "task": task.name,
            "task_digest": task.digest,
            "phrasing": phrasing,
            **passage.place,
        },
        fresh=f"{prompt}\n{answer}",
    )
    return _out_of_bounds(task, draft, prompt, answer, fields) or Candidate(draft=draft, label=label, rank=rank)


def _out_of_bounds(task: Task, draft: Draft, prompt: str, answer: str, fields: Mapping[str, Any]) -> Removed | None:
    def out(reason: str, **numbers: float) -> Removed:
        return Removed(draft=draft, step="template", reason=reason, numbers=numbers)

    if not answer:
        return out("empty_answer")
    if len(answer) < task.min_answer_characters:
        return out("answer_too_short", characters=len(answer), min_characters=task.min_answer_characters)
    if task.max_answer_characters is not None and len(answer) > task.max_answer_characters:
        return out("answer_too_long", characters=len(answer), max_characters=task.max_answer_characters)
    if len(prompt) < task.min_prompt_characters:
        return out("prompt_too_short", characters=len(prompt), min_characters=task.min_prompt_characters)
    if task.max_prompt_characters is not None and len(prompt) > task.max_prompt_characters:
        return out("prompt_too_long", characters=len(prompt), max_characters=task.max_prompt_characters)
    if any(stands_in(answer, str(fields.get(name, ""))) for name in task.hide_answer_from):
        return out("answer_leaks")
    return None


def _offer(candidate: Candidate | Removed | Malformed, sample: Sample | None) -> Iterator[Outcome]:
    if not isinstance(candidate, Candidate):
        yield candidate
    elif sample is None:
        yield candidate.draft
    elif (evicted := sample.add(candidate)) is not None:
        yield evicted


@dataclass(slots=True)
class Sample:
    """The candidates of a task with the smallest ranks, at most so many per class and in all.

    Memory is bounded by the caps: a candidate that is pushed out leaves at once.
    """

    task: Task
    _heaps: dict[str, list[tuple[int, int, Candidate]]] = field(default_factory=dict)
    _number: int = 0

    def add(self, candidate: Candidate) -> Removed | None:
        """Take a candidate in; the one that is now over the cap comes out."""
        label = candidate.label if self.task.max_rows_per_label else ""
        cap = self.task.max_rows_per_label or self.task.max_rows or 0
        self._number += 1
        heap = self._heaps.setdefault(label, [])
        heapq.heappush(heap, (-candidate.rank, self._number, candidate))
        if len(heap) <= cap:
            return None
        reason = "over_label_cap" if self.task.max_rows_per_label else "over_task_cap"
        return Removed(
            draft=heapq.heappop(heap)[2].draft, step="sample", reason=reason, numbers={"max_rows": float(cap)}
        )

    def finish(self) -> Iterator[Draft | Removed]:
        """What stayed, in the order of the input, and what the task's own cap pushes out."""
        kept = [item for heap in self._heaps.values() for item in heap]
        cap = self.task.max_rows or len(kept)
        staying = {number for _, number, _ in sorted(kept, key=lambda item: -item[0])[:cap]}
        for _, number, candidate in sorted(kept, key=lambda item: item[1]):
            if number in staying:
                yield candidate.draft
            else:
                yield Removed(
                    draft=candidate.draft, step="sample", reason="over_task_cap", numbers={"max_rows": float(cap)}
                )
