"""Judges behind a real server, and steps that ask them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import Response

from anneal.curation.adapters.judges.answer_log import AnswerLog
from anneal.curation.adapters.judges.panel import Panel, Patience
from anneal.curation.domain.judges import Judge
from anneal.curation.domain.steps.base import Scores
from anneal.curation.domain.steps.llm_judge import LlmJudge, LlmJudging
from tests.fixtures.openai_server import Answer, OpenAIServer, completion, openai_server
from tests.unit.curation.rows import Row, asked, batch_of

FAST = Patience(timeout_s=0.5, attempts=3, first_wait_s=0.01, max_wait_s=1.0)


@dataclass(slots=True)
class Counts:
    """What a panel counted."""

    answers: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)

    def __call__(self, name: str, n: int, **labels: str) -> None:
        ((_, label),) = labels.items()
        {"answers": self.answers, "tokens": self.tokens}[name][label] += n


def panel(
    folder: Path,
    counts: Counts | None = None,
    *,
    patience: Patience = FAST,
    check: Callable[[], None] = lambda: None,
    waiting: Callable[[str], None] = lambda _: None,
) -> Panel:
    """A new panel on the log of the folder, as another attempt of the job makes one."""
    return Panel(AnswerLog(folder / "judges.jsonl"), patience, check=check, count=counts or Counts(), waiting=waiting)


def judge(server: OpenAIServer, model: str = "judge-1", **more: str) -> Judge:
    return Judge(base_url=server.base_url, model=model, **more)


def shown(body: dict[str, Any], name: str) -> str:
    """What the judge was shown under a name."""
    found = re.search(rf"<{name} (\w+)>\n(.*)\n</{name} \1>", body["messages"][-1]["content"], re.DOTALL)
    assert found is not None
    return found[2]


def graded(score: Any, feedback: Any = "because") -> Response:
    return completion(json.dumps({"feedback": feedback, "score": score}))


def values(scores: Scores) -> dict[str, list[float | None]]:
    return {name: array.to_pylist() for name, array in scores.values.items()}


def scores_of(
    answer: Answer,
    folder: Path,
    *rows: Row,
    counts: Counts | None = None,
    patience: Patience = FAST,
    **step: Any,
) -> tuple[Scores, OpenAIServer]:
    """What a judge that answers so says of the rows."""
    with openai_server(answer) as server:
        asker = panel(folder, counts, patience=patience)
        judging = LlmJudging(step=LlmJudge(judge=judge(server), **step), asker=asker)
        return judging.score(batch_of(rows)), server


def grade_in_answer(body: dict[str, Any], _: int) -> Response:
    """The grade that the answer itself names."""
    return graded(int(shown(body, "answer")[-1]), f"about {shown(body, 'prompt')}")


def rows(count: int) -> list[Row]:
    return [asked(f"Question {n}?", f"Grade me {n % 4 + 1}") for n in range(count)]
