"""Answers that are one JSON value, equal or not whatever their spacing."""

from __future__ import annotations

from anneal.evaluation.domain.suite import Choice, Suite

JSON_ANSWERS = Suite(
    summary="Exact match of JSON values, word overlap, perplexity and length.",
    metrics=(
        Choice(metric="exact_match", settings={"compare": "json"}),
        Choice(metric="token_f1"),
        Choice(metric="rouge_l"),
        Choice(metric="perplexity"),
        Choice(metric="length"),
    ),
)
