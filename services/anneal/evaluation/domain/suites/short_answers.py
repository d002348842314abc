"""Short answers that can be compared with their reference word by word."""

from __future__ import annotations

from anneal.evaluation.domain.suite import Choice, Suite

SHORT_ANSWERS = Suite(
    summary="Exact match, word overlap, perplexity and length of short answers.",
    metrics=(
        Choice(metric="exact_match"),
        Choice(metric="token_f1"),
        Choice(metric="rouge_l"),
        Choice(metric="perplexity"),
        Choice(metric="length"),
    ),
)
