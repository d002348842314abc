"""Grade answers from 1 to 4 by several language models, and say how far they are apart.

A panel of smaller judges from different families is less biased than one large one: Verga et al. 2024,
arXiv:2404.18796, whose pooling by the mean is the score here, beside the median.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

import pyarrow as pa

from anneal.curation.domain.grading import RUBRIC, Grade, grades_of, need_rubric
from anneal.curation.domain.judges import DEFAULT_ASKING, NO_ANSWER, TOO_LONG, Asker, Asking, Judge, Silence
from anneal.curation.domain.scores import DEFAULT_MAX_UNSCORED_SHARE, need_score_name, need_share
from anneal.curation.domain.steps.base import Scores, need

MAX_JUDGES = 16
NO_QUORUM = "no_quorum"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmJury:
    """Give each row its judges' grades, their mean and median, their spread, and how many answered.

    The scores are `llm_jury` (the mean), `llm_jury_median`, `llm_jury_spread` (highest less lowest grade),
    `llm_jury_judges` (how many gave a grade) and `llm_jury/<judge>` for each judge. Without a quorum the first three
    are absent; the grades that were given stay.

    Attributes:
        judges: 2 to 16 models, each asked at temperature 0; their names must differ.
        rubric: what the grades 1 to 4 mean, as the judges are told.
        score_name: what the scores begin with.
        quorum: fewest grades that make a score; None is more than half of the judges.
        max_unscored_share: a larger share of unscored rows fails the job, 0 to 1.
        asking: how the judges are asked.

    Raises:
        WrongSetting: a setting is outside its limits, or two judges have one name.
    """

    judges: tuple[Judge, ...]
    rubric: str = RUBRIC
    score_name: str = "llm_jury"
    quorum: int | None = None
    max_unscored_share: float = DEFAULT_MAX_UNSCORED_SHARE
    asking: Asking = DEFAULT_ASKING

    def __post_init__(self) -> None:
        count = len(self.judges)
        need(2 <= count <= MAX_JUDGES, "judges", f"{count} are not within 2 and {MAX_JUDGES}")
        names = {judge.called for judge in self.judges}
        need(len(names) == count, "judges", "two have one name: give them different ones")
        need_rubric(self.rubric)
        need_score_name(self.score_name)
        fits = self.quorum is None or 1 <= self.quorum <= count
        need(fits, "quorum", f"{self.quorum} is not within 1 and the {count} judges")
        need_share(self.max_unscored_share)

    @property
    def needed(self) -> int:
        """Fewest grades that make a score."""
        return len(self.judges) // 2 + 1 if self.quorum is None else self.quorum


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmJurying:
    """A `LlmJury` with a way to ask."""

    step: LlmJury
    asker: Asker

    def score(self, batch: pa.RecordBatch) -> Scores:
        """The grades of the rows, pooled where enough judges answered."""
        step, prefix = self.step, self.step.score_name
        rows = [graded.grades for graded in grades_of(batch, step.judges, step.rubric, step.asking, self.asker)]
        given = [[grade.score for grade in grades if isinstance(grade, Grade)] for grades in rows]
        pooled = [grades if len(grades) >= step.needed else None for grades in given]
        values: dict[str, list[float | None]] = {
            prefix: [fmean(grades) if grades else None for grades in pooled],
            f"{prefix}_median": [float(median(grades)) if grades else None for grades in pooled],
            f"{prefix}_spread": [float(max(grades) - min(grades)) if grades else None for grades in pooled],
            f"{prefix}_judges": [float(len(grades)) for grades in given],
        }
        notes: dict[str, list[str | None]] = {}
        for place, judge in enumerate(step.judges):
            said = [grades[place] for grades in rows]
            values[f"{prefix}/{judge.called}"] = [float(one.score) if isinstance(one, Grade) else None for one in said]
            notes[f"feedback/{judge.called}"] = [one.feedback if isinstance(one, Grade) else None for one in said]
            notes[f"unscored/{judge.called}"] = [one.cause if isinstance(one, Silence) else None for one in said]
        causes = [None if grades else _cause(all_said) for grades, all_said in zip(pooled, rows, strict=True)]
        arrays = {name: pa.array(found, pa.float64()) for name, found in values.items()}
        return Scores(values=arrays, causes=causes, notes=notes)


def _cause(grades: Sequence[Grade | Silence]) -> str:
    """What the row itself lacks goes before what the judges did."""
    first = grades[0]
    return first.cause if isinstance(first, Silence) and first.cause in (NO_ANSWER, TOO_LONG) else NO_QUORUM
