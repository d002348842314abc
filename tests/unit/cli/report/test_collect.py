"""The contract's messages as parts of a report."""

from __future__ import annotations

from anneal.cli.report import collect
from anneal.v1 import adapter_pb2, dataset_pb2, evaluation_pb2, job_service_pb2, training_service_pb2

B = "projects/p/benchmarks/"


def loss(name: str, step: int, value: float) -> job_service_pb2.JobEvent:
    return job_service_pb2.JobEvent(metric=job_service_pb2.Metric(name=name, step=step, value=value))


def test_what_is_absent_stays_unknown_and_zero_stays_zero() -> None:
    unknown = collect.number(evaluation_pb2.Estimate(unscored_count=3))
    assert (unknown.value, unknown.stderr, unknown.low, unknown.scored, unknown.unscored) == (None, None, None, 0, 3)
    zero = collect.number(evaluation_pb2.Estimate(value=0, stderr=0, ci_low=0, ci_high=0, scored_count=2))
    assert (zero.value, zero.stderr, zero.low, zero.high) == (0, 0, 0, 0)


def test_dataset_keeps_its_balance_and_orders_its_splits() -> None:
    version = dataset_pb2.DatasetVersion(
        name="projects/p/datasets/d/versions/0123456789ab",
        kind=dataset_pb2.DATASET_KIND_CONVERSATION,
        split_row_counts={"test": 2, "train": 5, "extra": 1, "validation": 1},
        input_row_count=12,
        removals=[dataset_pb2.RemovalCount(step="length", reason="too_short", row_count=2)],
        quarantined_row_count=1,
        decontaminated_against=["sha256:aa", "sha256:bb"],
    )
    found = collect.dataset(version, "d", benchmarks={"sha256:aa": "kind"})
    assert list(found.splits) == ["train", "validation", "test", "extra"]
    assert found.rows_in == found.rows_out + found.removed[0].rows + found.quarantined
    assert found.decontaminated_against == ["kind", "sha256:bb"]


def test_losses_of_a_resumed_job_are_counted_once() -> None:
    events = [
        loss("train_loss", 1, 3.0),
        loss("train_loss", 2, 2.9),
        job_service_pb2.JobEvent(log=job_service_pb2.LogLine(text="x")),
        loss("validation_loss", 2, 2.5),
        loss("train_loss", 2, 2.8),
        loss("grad_norm", 2, 1.0),
        loss("validation_loss", 4, 2.5),
    ]
    points = collect.losses(events)
    assert [(p.split, p.step, p.loss) for p in points] == [
        ("train", 1, 3.0),
        ("train", 2, 2.8),
        ("validation", 2, 2.5),
        ("validation", 4, 2.5),
    ]
    assert collect.best_step(points) == 2
    assert collect.best_step(points[:2]) is None


def test_training_with_its_plan() -> None:
    plan = training_service_pb2.TrainingPlan(row_count=10, memory_bytes=1 << 30, step_count=30)
    version = adapter_pb2.AdapterVersion(name="v", step_count=20, parity=adapter_pb2.ParityCertificate(passed=True))
    items = {item.quantity: item for item in collect.plan_items(plan, version, seconds=12.5)}
    assert (items["time"].planned, items["time"].actual) == (None, 12.5)
    assert (items["peak memory"].planned, items["peak memory"].actual) == (1.0, None)
    assert (items["optimizer steps"].planned, items["optimizer steps"].actual) == (30, 20)
    made = collect.training(version, "kind", "kind", events=[loss("train_loss", 1, 3.0)])
    assert made.parity is not None
    assert made.parity.passed
    assert len(made.losses) == 1


def test_matrix_and_judgement() -> None:
    rule = evaluation_pb2.PolicyRule(benchmark=B + "k", metric="token_f1", min_gain=0)
    estimate = evaluation_pb2.Estimate(value=0.5, scored_count=9)
    base = evaluation_pb2.Evaluation(
        name="base-e",
        target="m",
        results=[evaluation_pb2.MetricResult(benchmark=B + "k", metric="token_f1", estimate=estimate)],
    )
    tuned = evaluation_pb2.Evaluation(
        name="kind-e",
        target="a",
        results=[
            evaluation_pb2.MetricResult(benchmark=B + "k", metric="token_f1", estimate=estimate, gain=estimate),
            evaluation_pb2.MetricResult(benchmark=B + "unlisted", metric="length", estimate=estimate),
        ],
        verdict=evaluation_pb2.VERDICT_NO_GO,
        rule_results=[
            evaluation_pb2.RuleResult(rule=rule, verdict=evaluation_pb2.VERDICT_NO_GO, explanation="it is not")
        ],
        contamination=[
            evaluation_pb2.ContaminationCheck(benchmark=B + "k", dataset_version="d1", decontaminated=True),
            evaluation_pb2.ContaminationCheck(
                benchmark=B + "k", dataset_version="d2", decontaminated=False, removed_row_count=4
            ),
        ],
    )
    found = collect.matrix(
        {"base": base, "kind": tuned}, {"kind": evaluation_pb2.Benchmark(name=B + "k", row_count=9)}, {"kind": "kind"}
    )
    assert [(cell.model, cell.benchmark, cell.gain is None) for cell in found.cells] == [
        ("base", "kind", True),
        ("kind", "kind", False),
    ]
    assert (found.metrics, found.models[0].task, found.models[1].task) == (["token_f1"], None, "kind")
    assert [(part.checked, part.removed_rows) for part in found.contamination] == [(False, 4)]
    judged = collect.judgement("kind", tuned, {B + "k": "kind"})
    assert judged is not None
    assert (judged.verdict, judged.rules[0].benchmark, judged.rules[0].explanation) == ("NO-GO", "kind", "it is not")
    assert collect.judgement("base", base, {}) is None
