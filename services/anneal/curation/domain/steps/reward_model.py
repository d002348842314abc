"""Score conversations by a reward model: one number for the whole, as its chat template writes it.

The model is a sequence classifier with one output, as reward models are trained (Ouyang et al. 2022, arXiv:2203.02155,
section 3.5) and published. Its number has no unit: compare it within one model only.
"""

from __future__ import annotations

from dataclasses import dataclass

from anneal.curation.domain.model_settings import Classifier
from anneal.curation.domain.scores import DEFAULT_MAX_UNSCORED_SHARE, need_score_name, need_share


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardModel:
    """Give each conversation that ends with an answer the score `reward`: the model's one logit.

    A conversation of more tokens than the model takes stays unscored: without its end it would be another one.

    Attributes:
        model: which one, and how it runs; its tokenizer needs a chat template.
        score_name: what the score is called.
        max_unscored_share: a larger share of unscored rows fails the job, 0 to 1.

    Raises:
        WrongSetting: a setting is outside its limits.
    """

    model: Classifier
    score_name: str = "reward"
    max_unscored_share: float = DEFAULT_MAX_UNSCORED_SHARE

    def __post_init__(self) -> None:
        need_score_name(self.score_name)
        need_share(self.max_unscored_share)
