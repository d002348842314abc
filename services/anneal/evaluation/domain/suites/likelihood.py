"""How probable the references are: one forward pass a row, no generation, so by far the cheapest."""

from __future__ import annotations

from anneal.evaluation.domain.suite import Suite

LIKELIHOOD = Suite(
    summary="Perplexity of the references, without generating an answer.",
    metrics=("perplexity",),
)
