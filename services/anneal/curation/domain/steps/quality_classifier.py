"""Score texts by an encoder that was trained to tell good ones.

The example is FineWeb-Edu's (Penedo et al. 2024, arXiv:2406.17557, section 4): a regression from 0 to 5 over the first
512 tokens, of which its authors keep what rounds to 3 or more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from anneal.curation.domain.model_settings import Classifier
from anneal.curation.domain.scores import DEFAULT_MAX_UNSCORED_SHARE, need_score_name, need_share
from anneal.curation.domain.steps.base import need
from anneal.curation.domain.texts import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityClassifier:
    """Give each row the score `quality`: the probability of a label, or the output of a regression.

    Attributes:
        model: which one, and how it runs.
        label: whose probability is the score, as the model names it; None for a model with one output, a regression.
        part: which text is looked at.
        long_texts: what becomes of a text of more tokens than the model takes: its beginning counts, or it stays
            unscored.
        score_name: what the score is called.
        max_unscored_share: a larger share of unscored rows fails the job, 0 to 1.

    Raises:
        WrongSetting: a setting is outside its limits.
    """

    model: Classifier
    label: str | None = None
    part: Part = "answer"
    long_texts: Literal["truncate", "unscored"] = "truncate"
    score_name: str = "quality"
    max_unscored_share: float = DEFAULT_MAX_UNSCORED_SHARE

    def __post_init__(self) -> None:
        need(self.label is None or bool(self.label.strip()), "label", "is blank")
        need_score_name(self.score_name)
        need_share(self.max_unscored_share)
