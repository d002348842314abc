"""Scorers that ask models: judges behind an endpoint, and classifiers that run in the job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from anneal.curation.domain.scores import CountedScorer
from anneal.curation.domain.steps import Judging, Scoring
from anneal.curation.domain.steps.base import Grader
from anneal.curation.domain.steps.llm_judge import LlmJudge, LlmJudging
from anneal.curation.domain.steps.llm_jury import LlmJury, LlmJurying
from anneal.curation.domain.steps.pairwise_judge import POSITION_DISAGREEMENTS, PairwiseJudge, PairwiseJudging
from anneal.curation.domain.steps.quality_classifier import QualityClassifier
from anneal.curation.domain.steps.reward_model import RewardModel
from anneal.curation.settings import JudgeOptions

LOG_NAME = "judges.jsonl"


def scorer_of(
    step: Scoring,
    scratch: Path,
    options: JudgeOptions,
    *,
    check: Callable[[], None],
    count: Callable[..., None],
    waiting: Callable[[str], None] = lambda _: None,
) -> CountedScorer:
    """What scores rows as a step says; call its `finish` after the last row.

    Args:
        step: the settings.
        scratch: folder that survives attempts; answers are kept there.
        options: how judges are reached.
        check: raises when the job shall stop, as `JobContext.check`.
        count: adds to a counter, as `JobContext.count`.
        waiting: says what is waited for, as `JobContext.waiting`.

    Raises:
        NotInstalled: the step needs a library that is not there.
        ModelUnfit: a model cannot do what the step needs.
    """
    totals = (POSITION_DISAGREEMENTS,) if isinstance(step, PairwiseJudge) else ()
    scorer = _judging(step, scratch, options, check, count, waiting) if isinstance(step, Judging) else _running(step)
    return CountedScorer(step.score_name, scorer, step.max_unscored_share, totals)


def _judging(
    step: Judging,
    scratch: Path,
    options: JudgeOptions,
    check: Callable[[], None],
    count: Callable[..., None],
    waiting: Callable[[str], None],
) -> Grader:
    # Importing the client takes longer than most jobs, which need none.
    from anneal.curation.adapters.judges.answer_log import AnswerLog
    from anneal.curation.adapters.judges.panel import Panel, Patience

    patience = Patience(timeout_s=options.timeout_s, attempts=options.attempts, away_s=options.away_s)
    panel = Panel(AnswerLog(scratch / LOG_NAME), patience, check=check, count=count, waiting=waiting)
    if isinstance(step, LlmJudge):
        return LlmJudging(step=step, asker=panel)
    if isinstance(step, LlmJury):
        return LlmJurying(step=step, asker=panel)
    return PairwiseJudging(step=step, asker=panel)


def _running(step: QualityClassifier | RewardModel) -> Grader:
    from anneal.curation.adapters.judges.classifiers import ClassifierScoring, RewardScoring

    return RewardScoring(step) if isinstance(step, RewardModel) else ClassifierScoring(step)
