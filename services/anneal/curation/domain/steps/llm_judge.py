"""Grade answers from 1 to 4 by a language model, with its feedback, and once more without what length alone earns.

Scale: Hugging Face's cookbook, see `grading`. Judges like long answers (Zheng et al. 2023, arXiv:2306.05685, section
3.3; Dubois et al. 2024, arXiv:2404.04475, who regress it out over a whole set of answers). A regression over a batch
would make a row's score depend on its neighbours, so the correction here is a formula of the row alone:

    corrected = clip(score - clip(weight * log2(characters / reference), -most, most), 1, 4)

With the defaults an answer of twice the reference length loses a quarter of a grade, and length never moves a whole
one. Characters stand for tokens: their ratio is about the same, and a judge's tokenizer is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

import pyarrow as pa

from anneal.curation.domain.grading import HIGHEST, LOWEST, RUBRIC, grades_of, need_rubric
from anneal.curation.domain.judges import DEFAULT_ASKING, Asker, Asking, Judge, Silence
from anneal.curation.domain.scores import DEFAULT_MAX_UNSCORED_SHARE, need_score_name, need_share
from anneal.curation.domain.steps.base import Scores, need


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmJudge:
    """Give each row the scores `llm_judge` (1 to 4) and `llm_judge_length_corrected`, and the judge's feedback.

    Attributes:
        judge: the model asked, at temperature 0.
        rubric: what the grades 1 to 4 mean, as the judge is told.
        score_name: what the score is called; the other one adds `_length_corrected`.
        length_weight: what an answer loses for each doubling beyond the reference, in grades; 0 corrects nothing.
        reference_characters: length of an answer that neither loses nor gains.
        max_length_correction: most that length can move, in grades.
        max_unscored_share: a larger share of unscored rows fails the job, 0 to 1.
        asking: how the judge is asked.

    Raises:
        WrongSetting: a setting is outside its limits.
    """

    judge: Judge
    rubric: str = RUBRIC
    score_name: str = "llm_judge"
    length_weight: float = 0.25
    reference_characters: int = 1_000
    max_length_correction: float = 0.5
    max_unscored_share: float = DEFAULT_MAX_UNSCORED_SHARE
    asking: Asking = DEFAULT_ASKING

    def __post_init__(self) -> None:
        need_rubric(self.rubric)
        need_score_name(self.score_name)
        need(0 <= self.length_weight <= HIGHEST, "length_weight", f"{self.length_weight} is not within 0 and {HIGHEST}")
        need(self.reference_characters >= 1, "reference_characters", f"{self.reference_characters} is not above 0")
        most = self.max_length_correction
        need(0 <= most <= HIGHEST, "max_length_correction", f"{most} is not within 0 and {HIGHEST}")
        need_share(self.max_unscored_share)

    @property
    def judges(self) -> Sequence[Judge]:
        """Who is asked."""
        return (self.judge,)

    def corrected(self, score: float, characters: int) -> float:
        """A score without what length earned; `characters` of the answer, 1 or more."""
        most = self.max_length_correction
        correction = self.length_weight * log2(characters / self.reference_characters)
        return min(max(score - min(max(correction, -most), most), LOWEST), HIGHEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmJudging:
    """A `LlmJudge` with a way to ask."""

    step: LlmJudge
    asker: Asker

    def score(self, batch: pa.RecordBatch) -> Scores:
        """A grade for each row that ends with an answer, or the cause of its absence."""
        step = self.step
        values: list[float | None] = []
        corrected: list[float | None] = []
        causes: list[str | None] = []
        feedback: list[str | None] = []
        for graded in grades_of(batch, step.judges, step.rubric, step.asking, self.asker):
            (grade,) = graded.grades
            known = None if isinstance(grade, Silence) else grade
            values.append(float(known.score) if known else None)
            corrected.append(step.corrected(known.score, graded.characters) if known else None)
            causes.append(grade.cause if isinstance(grade, Silence) else None)
            feedback.append(known.feedback if known else None)
        name = step.score_name
        arrays = {name: pa.array(values, pa.float64()), f"{name}_length_corrected": pa.array(corrected, pa.float64())}
        return Scores(values=arrays, causes=causes, notes={"feedback": feedback})
