"""The table of metrics. To add one: a file here and a line in the table."""

from __future__ import annotations

from anneal.evaluation.domain.metric import Metric
from anneal.evaluation.domain.metrics.exact_match import ExactMatch
from anneal.evaluation.domain.metrics.latency import Latency
from anneal.evaluation.domain.metrics.length import Length
from anneal.evaluation.domain.metrics.perplexity import Perplexity
from anneal.evaluation.domain.metrics.rouge_l import RougeL
from anneal.evaluation.domain.metrics.token_f1 import TokenF1

METRICS: dict[str, Metric] = {
    "exact_match": ExactMatch(),
    "latency": Latency(),
    "length": Length(),
    "perplexity": Perplexity(),
    "rouge_l": RougeL(),
    "token_f1": TokenF1(),
}
