"""What one order of rows consists of, checked."""

from __future__ import annotations

from dataclasses import dataclass

from anneal.synthesis.domain.generators import Generator
from anneal.synthesis.domain.teacher import Sampling

DEFAULT_MIN_GROUNDING = 0.6
DEFAULT_NGRAM_WORDS = 5
MAX_OVERLAP_OF_TAUGHT_ROWS = 0.8
EQUAL_TEXT_ONLY = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherOrder:
    """The teacher of an order.

    Attributes:
        api_key_env: name of the variable that holds the key; empty where the endpoint wants none.
    """

    base_url: str
    model: str
    api_key_env: str
    sampling: Sampling
    concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How rows are made.

    Attributes:
        teacher: there exactly when the generator needs one.
        max_total_tokens: hard cap of prompt and answer tokens.
        max_rows: most rows kept; None without a limit.
        against: dataset versions whose rows count as earlier rows.
    """

    generator_name: str
    generator: Generator
    teacher: TeacherOrder | None
    max_total_tokens: int
    max_rows: int | None
    max_overlap: float
    ngram_words: int
    against: tuple[str, ...]
    min_grounding: float
