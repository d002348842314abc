"""Resources as parts of a report."""

from __future__ import annotations

import pytest

from anneal.cli.loop import encode
from anneal.v1 import adapter_pb2, dataset_pb2, evaluation_pb2, training_service_pb2
from anneal.v1.job_service_pb2 import Metric

B = "projects/p/benchmarks/k"


def test_what_is_absent_stays_unknown_and_zero_stays_zero() -> None:
    unknown = encode.number(evaluation_pb2.Estimate(unscored_count=3))
    assert (unknown.value, unknown.stderr, unknown.low, unknown.scored, unknown.unscored) == (None, None, None, 0, 3)
    zero = encode.number(evaluation_pb2.Estimate(value=0, stderr=0, ci_low=0, ci_high=0, scored_count=2))
    assert (zero.value, zero.stderr, zero.low, zero.high) == (0, 0, 0, 0)


def test_a_dataset_keeps_its_balance_and_orders_its_splits() -> None:
    version = dataset_pb2.DatasetVersion(
        kind=dataset_pb2.DATASET_KIND_CONVERSATION,
        split_row_counts={"test": 2, "train": 5, "extra": 1, "validation": 1},
        input_row_count=12,
        removals=[dataset_pb2.RemovalCount(step="length", reason="too_short", row_count=2)],
        quarantined_row_count=1,
    )
    found = encode.dataset("d", None, version)
    assert list(found.splits) == ["train", "validation", "test", "extra"]
    assert found.rows_in == found.rows_out + found.removed[0].rows + found.quarantined


def test_the_losses_of_a_resumed_job_are_counted_once() -> None:
    metrics = [
        Metric(name="train_loss", step=1, value=3.0),
        Metric(name="train_loss", step=2, value=2.9),
        Metric(name="validation_loss", step=2, value=2.5),
        Metric(name="train_loss", step=2, value=2.8),
        Metric(name="grad_norm", step=2, value=1.0),
        Metric(name="train_loss", value=9.0),
    ]
    assert [(point.split, point.step, point.loss) for point in encode.losses(metrics)] == [
        ("train", 1, 3.0),
        ("train", 2, 2.8),
        ("validation", 2, 2.5),
    ]


def test_a_training_stands_beside_its_plan() -> None:
    plan = training_service_pb2.TrainingPlan(memory_bytes=1 << 30, step_count=30)
    adapter = adapter_pb2.AdapterVersion(step_count=20, parity=adapter_pb2.ParityCertificate(passed=True))
    metrics = [Metric(name="validation_loss", step=step, value=loss) for step, loss in ((5, 2.0), (10, 1.5), (15, 1.6))]
    made = encode.trained("t", adapter, training_service_pb2.TrainingSpec(), plan, metrics, 12.5)
    items = {item.quantity: item for item in made.plan}
    assert (items["time"].planned, items["time"].actual) == (None, 12.5)
    assert (items["peak memory"].planned, items["peak memory"].actual) == (1.0, None)
    assert (made.best_step, made.stopped_early) == (10, True)


@pytest.mark.parametrize("has_baseline", [True, False])
def test_cells_and_judgement(has_baseline: bool) -> None:
    rule = evaluation_pb2.PolicyRule(benchmark=B, metric="token_f1", min_gain=0)
    estimate = evaluation_pb2.Estimate(value=0.5, scored_count=9)
    evaluation = evaluation_pb2.Evaluation(
        results=[evaluation_pb2.MetricResult(benchmark=B, metric="token_f1", estimate=estimate)],
        verdict=evaluation_pb2.VERDICT_NO_GO,
        rule_results=[
            evaluation_pb2.RuleResult(rule=rule, verdict=evaluation_pb2.VERDICT_NO_GO, explanation="it is not")
        ],
    )
    if has_baseline:
        evaluation.results[0].gain.CopyFrom(estimate)
    (cell,) = encode.cells("m", {B: "kind"}, evaluation)
    assert (cell.model, cell.benchmark, cell.gain is not None) == ("m", "kind", has_baseline)
    judged = encode.judgement("m", {B: "kind"}, evaluation)
    assert (judged.verdict, judged.rules[0].benchmark, judged.rules[0].explanation) == ("NO-GO", "kind", "it is not")
