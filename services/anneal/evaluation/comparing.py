"""Two finished evaluations, compared row by row."""

from __future__ import annotations

from anneal.evaluation import codec
from anneal.evaluation.adapters import row_file
from anneal.evaluation.domain import scoring
from anneal.evaluation.domain.errors import NothingInCommon
from anneal.kit.store import Store
from anneal.v1 import evaluation_pb2


def compare(
    store: Store, ours: evaluation_pb2.Evaluation, theirs: evaluation_pb2.Evaluation
) -> list[evaluation_pb2.MetricResult]:
    """Every metric of every benchmark that both measured and can be compared by, in the order of the first.

    Raises:
        NothingInCommon: there is none.
        BlobMissing: the store has lost the rows of one.
    """
    mine, other = row_file.read_scores(store, ours.rows_digest), row_file.read_scores(store, theirs.rows_digest)
    is_same_base = ours.base_model_digest == theirs.base_model_digest
    results = [
        codec.encode_result(
            benchmark,
            metric,
            scoring.number(metric, mine[benchmark][metric]),
            scoring.gain(metric, mine[benchmark][metric], other[benchmark][metric]),
            scoring.number(metric, other[benchmark][metric]),
        )
        for benchmark in mine
        for metric in scoring.comparable(mine[benchmark], is_same_base=is_same_base)
        if metric in other.get(benchmark, {})
    ]
    if not results:
        raise NothingInCommon(
            f"{ours.name} and {theirs.name} share no benchmark and metric they could be compared by",
            evaluation=ours.name,
            baseline=theirs.name,
        )
    return results
