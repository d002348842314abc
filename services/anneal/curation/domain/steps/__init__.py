"""The table of steps: one file each, one line here."""

from __future__ import annotations

from collections.abc import Mapping

from anneal.curation.domain.steps.contradictions import Contradictions
from anneal.curation.domain.steps.decontaminate import Decontaminate
from anneal.curation.domain.steps.exact_duplicates import ExactDuplicates
from anneal.curation.domain.steps.format import Format
from anneal.curation.domain.steps.fuzzy_duplicates import FuzzyDuplicates
from anneal.curation.domain.steps.grouped_split import GroupedSplit
from anneal.curation.domain.steps.keywords import Keywords
from anneal.curation.domain.steps.language import Language
from anneal.curation.domain.steps.length import Length
from anneal.curation.domain.steps.llm_judge import LlmJudge
from anneal.curation.domain.steps.llm_jury import LlmJury
from anneal.curation.domain.steps.mix import Mix
from anneal.curation.domain.steps.pairwise_judge import PairwiseJudge
from anneal.curation.domain.steps.pii_filter import PiiFilter
from anneal.curation.domain.steps.pii_mask import PiiMask
from anneal.curation.domain.steps.quality_classifier import QualityClassifier
from anneal.curation.domain.steps.refusals import Refusals
from anneal.curation.domain.steps.repetition import Repetition
from anneal.curation.domain.steps.reward_model import RewardModel
from anneal.curation.domain.steps.sample import Sample
from anneal.curation.domain.steps.score_filter import ScoreFilter
from anneal.curation.domain.steps.semantic_duplicates import SemanticDuplicates
from anneal.curation.domain.steps.split import Split
from anneal.curation.domain.steps.symbols import Symbols

Judging = LlmJudge | LlmJury | PairwiseJudge
Scoring = Judging | QualityClassifier | RewardModel
Step = (
    Contradictions
    | Decontaminate
    | ExactDuplicates
    | Format
    | FuzzyDuplicates
    | GroupedSplit
    | Keywords
    | Language
    | Length
    | Mix
    | PiiFilter
    | PiiMask
    | Refusals
    | Repetition
    | Sample
    | ScoreFilter
    | SemanticDuplicates
    | Split
    | Symbols
    | Scoring
)

# At most one of these in a pipeline: each gives every row its split.
SPLITTERS = (Split, GroupedSplit)

STEPS: Mapping[str, type[Step]] = {
    "contradictions": Contradictions,
    "decontaminate": Decontaminate,
    "exact_duplicates": ExactDuplicates,
    "format": Format,
    "fuzzy_duplicates": FuzzyDuplicates,
    "grouped_split": GroupedSplit,
    "keywords": Keywords,
    "language": Language,
    "length": Length,
    "llm_judge": LlmJudge,
    "llm_jury": LlmJury,
    "mix": Mix,
    "pairwise_judge": PairwiseJudge,
    "pii_filter": PiiFilter,
    "pii_mask": PiiMask,
    "quality_classifier": QualityClassifier,
    "refusals": Refusals,
    "repetition": Repetition,
    "reward_model": RewardModel,
    "sample": Sample,
    "score_filter": ScoreFilter,
    "semantic_duplicates": SemanticDuplicates,
    "split": Split,
    "symbols": Symbols,
}
