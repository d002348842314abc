"""Compare each answer with others to the same prompt, by a language model that sees both orders.

Each pair is asked twice, with the positions swapped, and an answer wins only where both orders say so; a verdict that
turns with the order is a tie (Zheng et al. 2023, arXiv:2306.05685, section 3.4), and is counted.

The other answers stand in the row's own `meta`, as in sets of preferences with a rejected answer beside the chosen
one: so a row can be judged by itself, however rows are cut into batches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from anneal.curation.domain.grading import need_rubric
from anneal.curation.domain.judges import (
    DEFAULT_ASKING,
    MALFORMED,
    MATERIAL,
    TOO_LONG,
    Asker,
    Asking,
    Judge,
    Judged,
    Question,
    Reply,
    Silence,
    feedback_of,
    read_object,
    rows_to_judge,
    storable,
)
from anneal.curation.domain.scores import DEFAULT_MAX_UNSCORED_SHARE, need_score_name, need_share
from anneal.curation.domain.steps.base import Scores, need

MAX_ALTERNATIVES = 16
NO_ALTERNATIVE = "no_alternative"
POSITION_DISAGREEMENTS = "position_disagreements"
RUBRIC = (
    "Say which of the two answers serves whoever wrote the prompt better: which is more correct, more complete, more "
    "to the point. Neither the order in which they stand nor their length counts by itself. If neither is better, it "
    "is a tie."
)
_FORM = (
    'Answer with one JSON object and nothing else: {"feedback": "<your reasons, in one to three sentences>", '
    '"winner": "<A, B or tie>"}'
)
_SCHEMA = {
    "type": "object",
    "properties": {"feedback": {"type": "string"}, "winner": {"type": "string", "enum": ["A", "B", "tie"]}},
    "required": ["feedback", "winner"],
    "additionalProperties": False,
}
Verdict = Literal["win", "loss", "tie"]
_OWN_FIRST: dict[Any, Verdict] = {"A": "win", "B": "loss", "tie": "tie"}
_OWN_LAST: dict[Any, Verdict] = {"A": "loss", "B": "win", "tie": "tie"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PairwiseJudge:
    """Give each row the score `win_rate`: the share of comparisons its answer wins, a tie being half a win.

    Attributes:
        judge: the model asked, at temperature 0.
        alternative_key: where in `meta` the other answer stands, or a list of 1 to 16 other answers.
        rubric: what makes one answer better, as the judge is told.
        score_name: what the score is called.
        max_unscored_share: a larger share of unscored rows fails the job, 0 to 1.
        asking: how the judge is asked; `max_characters` is about the row and one other answer.

    Raises:
        WrongSetting: a setting is outside its limits.
    """

    judge: Judge
    alternative_key: str = "alternative"
    rubric: str = RUBRIC
    score_name: str = "win_rate"
    max_unscored_share: float = DEFAULT_MAX_UNSCORED_SHARE
    asking: Asking = DEFAULT_ASKING

    def __post_init__(self) -> None:
        need(bool(self.alternative_key.strip()), "alternative_key", "is blank")
        need_rubric(self.rubric)
        need_score_name(self.score_name)
        need_share(self.max_unscored_share)

    @property
    def judges(self) -> Sequence[Judge]:
        """Who is asked."""
        return (self.judge,)


@dataclass(frozen=True, slots=True)
class _Said:
    """What the judge said in one order, from the row's own side."""

    verdict: Verdict
    feedback: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairwiseJudging:
    """A `PairwiseJudge` with a way to ask."""

    step: PairwiseJudge
    asker: Asker

    def score(self, batch: pa.RecordBatch) -> Scores:
        """The share of comparisons won, or the cause why there was none."""
        rows = rows_to_judge(batch, self.step.asking.max_characters)
        others = [self._others(row, meta) for row, meta in zip(rows, batch.column("meta").to_pylist(), strict=True)]
        questions = [
            question
            for row, found in zip(rows, others, strict=True)
            if isinstance(row, Judged) and not isinstance(found, Silence)
            for other in found
            for question in self._questions(row, other)
        ]
        replies = iter(self.asker.ask(questions, self.step.asking.concurrency))
        decided = [
            found if isinstance(found, Silence) else _decided([_both(next(replies), next(replies)) for _ in found])
            for found in others
        ]
        rates = [None if isinstance(one, Silence) else one.rate for one in decided]
        return Scores(
            values={self.step.score_name: pa.array(rates, pa.float64())},
            causes=[one.cause if isinstance(one, Silence) else None for one in decided],
            notes={
                "feedback": [None if isinstance(one, Silence) else one.feedback for one in decided],
                POSITION_DISAGREEMENTS: [None if isinstance(one, Silence) else str(one.turned) for one in decided],
            },
        )

    def _others(self, row: Judged | Silence, meta: str | None) -> Sequence[str] | Silence:
        if isinstance(row, Silence):
            return row
        try:
            opened = json.loads(meta or "{}")
        except ValueError:
            return Silence(NO_ALTERNATIVE)
        found = opened.get(self.step.alternative_key) if isinstance(opened, dict) else None
        listed = found if isinstance(found, list) else [found]
        others = [storable(other) for other in listed if isinstance(other, str) and other.strip()]
        if not 1 <= len(others) == len(listed) <= MAX_ALTERNATIVES:
            return Silence(NO_ALTERNATIVE)
        room = self.step.asking.max_characters - len(row.prompt) - len(row.answer)
        return Silence(TOO_LONG) if max(map(len, others)) > room else others

    def _questions(self, row: Judged, other: str) -> Iterator[Question]:
        system = f"You compare answers, strictly and fairly. {MATERIAL}\n\n{self.step.rubric.strip()}\n\n{_FORM}"
        for first, second in ((row.answer, other), (other, row.answer)):
            shown = row.between_marks(prompt=row.prompt, answer_A=first, answer_B=second)
            yield Question(
                judge=self.step.judge,
                row_id=row.row_id,
                messages=({"role": "system", "content": system}, {"role": "user", "content": shown}),
                schema=_SCHEMA,
                max_tokens=self.step.asking.max_tokens,
            )


def _both(own_first: Reply | Silence, own_last: Reply | Silence) -> tuple[_Said | Silence, _Said | Silence]:
    return _read(own_first, _OWN_FIRST), _read(own_last, _OWN_LAST)


def _read(reply: Reply | Silence, sides: dict[Any, Verdict]) -> _Said | Silence:
    value, cause = read_object(reply, "winner")
    if value is None:
        return Silence(cause or MALFORMED)
    winner = value["winner"]
    if not isinstance(winner, str) or winner not in sides:
        return Silence(MALFORMED)
    return _Said(sides[winner], feedback_of(value))


@dataclass(frozen=True, slots=True)
class _Decided:
    """The comparisons of a row that were heard in both orders.

    Attributes:
        rate: share that the row's answer wins.
        turned: how many verdicts turned with the order.
    """

    rate: float
    turned: int
    feedback: str | None


def _decided(pairs: Sequence[tuple[_Said | Silence, _Said | Silence]]) -> _Decided | Silence:
    heard = [(one, two) for one, two in pairs if isinstance(one, _Said) and isinstance(two, _Said)]
    if not heard:
        return next(said for pair in pairs for said in pair if isinstance(said, Silence))
    points = {"win": 1.0, "tie": 0.5, "loss": 0.0}
    won = sum(points[one.verdict] if one.verdict == two.verdict else 0.5 for one, two in heard)
    words = [said.feedback for pair in heard for said in pair if said.feedback]
    turned = sum(one.verdict != two.verdict for one, two in heard)
    return _Decided(won / len(heard), turned, "\n".join(words) or None)
