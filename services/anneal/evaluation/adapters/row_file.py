"""Every answer and score of an evaluation as one Parquet file in the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import fsum
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from anneal.evaluation.domain.answers import Answer
from anneal.evaluation.domain.estimates import Score
from anneal.evaluation.domain.questions import Question
from anneal.kit.store import Store

Side = Literal["target", "baseline"]
ScoresByBenchmark = dict[str, dict[str, dict[str, Score | None]]]
"""benchmark -> metric -> row id -> score, or None where the row could not be scored."""

_SCORE = pa.struct([("metric", pa.string()), ("value", pa.float64()), ("weight", pa.float64())])
SCHEMA = pa.schema(
    [
        ("side", pa.string()),
        ("benchmark", pa.string()),
        ("id", pa.string()),
        ("group", pa.string()),
        ("reference", pa.string()),
        ("answer", pa.string()),
        ("finish_reason", pa.string()),
        ("answer_tokens", pa.int64()),
        ("latency_s", pa.float64()),
        ("reference_tokens", pa.int64()),
        ("reference_logprob", pa.float64()),
        ("cause", pa.string()),
        ("metrics", pa.list_(pa.string())),
        ("scores", pa.list_(_SCORE)),
    ]
)
"""`metrics` are those that were measured; one that has no entry in `scores` left the row unscored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRow:
    """One line of the file: the question, its answer, and its score under every metric that was measured."""

    side: Side
    benchmark: str
    question: Question
    answer: Answer
    scores: Mapping[str, Score | None]


def write(store: Store, rows: Iterable[ScoredRow]) -> str:
    """Put the rows into the store; returns the digest of the file."""
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist([_line(row) for row in rows], schema=SCHEMA)
    pq.write_table(table, sink, compression="zstd")
    return store.put_bytes(memoryview(sink.getvalue()).cast("B"))


def read_scores(store: Store, digest: str, side: Side = "target") -> ScoresByBenchmark:
    """The scores of one side of an evaluation.

    Raises:
        BlobMissing: the store has no such file.
    """
    columns = ["side", "benchmark", "id", "group", "metrics", "scores"]
    table = pq.read_table(pa.BufferReader(store.get_bytes(digest)), columns=columns)
    found: ScoresByBenchmark = {}
    for row in table.to_pylist():
        if row["side"] != side:
            continue
        scores = {
            score["metric"]: Score(value=score["value"], weight=score["weight"], group=row["group"])
            for score in row["scores"]
        }
        for metric in row["metrics"]:
            found.setdefault(row["benchmark"], {}).setdefault(metric, {})[row["id"]] = scores.get(metric)
    return found


def _line(row: ScoredRow) -> dict[str, Any]:
    question, answer = row.question, row.answer
    logprobs = answer.reference_logprobs
    return {
        "side": row.side,
        "benchmark": row.benchmark,
        "id": question.id,
        "group": question.group,
        "reference": question.reference,
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "answer_tokens": answer.tokens,
        "latency_s": answer.latency_s,
        "reference_tokens": None if logprobs is None else len(logprobs),
        "reference_logprob": None if logprobs is None else fsum(logprobs),
        "cause": answer.cause,
        "metrics": list(row.scores),
        "scores": [
            {"metric": metric, "value": score.value, "weight": score.weight}
            for metric, score in row.scores.items()
            if score is not None
        ],
    }
