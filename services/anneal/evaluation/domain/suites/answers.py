"""What the answers are worth: needs a generation for every row."""

from __future__ import annotations

from anneal.evaluation.domain.suite import Suite

ANSWERS = Suite(
    summary="Exact match, word overlap and length of the answers.",
    metrics=("exact_match", "token_f1", "rouge_l", "length"),
)
