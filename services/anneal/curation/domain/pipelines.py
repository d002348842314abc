"""Ready pipelines: what most datasets need, in an order that works.

Cheap filters come first and what compares rows after them; personal data is masked before rows are compared, so that
two rows that differ in it alone are duplicates; rows are split by groups before they are compared with benchmarks, so
that rows of the split test are spared. Every step can be given as well by itself, with settings of one's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Pipeline = Sequence[tuple[str, Mapping[str, Any]]]

PIPELINES: Mapping[str, Pipeline] = {
    # Conversations for fine-tuning, from wherever they are: what is broken, empty or said twice leaves.
    "instruction-default": (
        ("format", {}),
        ("length", {"min_answer_characters": 1, "max_answer_words": 8_000, "max_prompt_words": 16_000}),
        ("refusals", {}),
        ("pii_mask", {}),
        ("exact_duplicates", {}),
        ("fuzzy_duplicates", {}),
        ("grouped_split", {}),
        ("decontaminate", {"benchmarks": ["*"]}),
    ),
    # The same for when there are rows enough: what is doubtful leaves, too.
    "strict": (
        ("format", {}),
        ("length", {"min_answer_words": 2, "max_answer_words": 4_000, "max_prompt_words": 8_000}),
        ("refusals", {}),
        ("repetition", {}),
        ("symbols", {}),
        ("pii_filter", {}),
        ("exact_duplicates", {"part": "prompt"}),
        ("fuzzy_duplicates", {"threshold": 0.7}),
        ("semantic_duplicates", {"threshold": 0.95}),
        ("grouped_split", {"threshold": 0.6}),
        (
            "decontaminate",
            {
                "benchmarks": ["*"],
                "methods": ["exact", "ngram", "fuzzy"],
                "ngram": 8,
                "min_ngram_share": 0.7,
                "fuzzy_threshold": 0.6,
            },
        ),
    ),
    # Documents, from which rows are made or on which a model goes on to be trained.
    "documents": (
        ("length", {"min_answer_words": 20}),
        ("repetition", {}),
        ("symbols", {}),
        ("pii_mask", {}),
        ("exact_duplicates", {}),
        ("fuzzy_duplicates", {}),
        ("decontaminate", {"benchmarks": ["*"]}),
    ),
}
