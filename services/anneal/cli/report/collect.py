"""From the contract's messages to the parts of a report. Pure: whoever runs the loop asks, this turns answers round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from google.protobuf.json_format import MessageToDict

from anneal.cli.report import model as m
from anneal.v1 import adapter_pb2, dataset_pb2, deployment_pb2, evaluation_pb2, job_service_pb2, training_service_pb2

_VERDICTS: Mapping[int, Literal["GO", "NO-GO", "INCONCLUSIVE"]] = {
    evaluation_pb2.VERDICT_GO: "GO",
    evaluation_pb2.VERDICT_NO_GO: "NO-GO",
    evaluation_pb2.VERDICT_INCONCLUSIVE: "INCONCLUSIVE",
}
_SPLIT_ORDER = ("train", "validation", "test")
_LOSSES: Mapping[str, Literal["train", "validation"]] = {"train_loss": "train", "validation_loss": "validation"}


def number(estimate: evaluation_pb2.Estimate) -> m.Number:
    """An estimate; what is absent stays unknown."""
    return m.Number(
        value=estimate.value if estimate.HasField("value") else None,
        stderr=estimate.stderr if estimate.HasField("stderr") else None,
        low=estimate.ci_low if estimate.HasField("ci_low") else None,
        high=estimate.ci_high if estimate.HasField("ci_high") else None,
        scored=estimate.scored_count,
        unscored=estimate.unscored_count,
    )


def dataset(
    version: dataset_pb2.DatasetVersion,
    label: str,
    *,
    task: str | None = None,
    benchmarks: Mapping[str, str] | None = None,
) -> m.Dataset:
    """A dataset version with the balance of its rows.

    Args:
        version: as the registry gives it.
        label: what people call it.
        task: the task it belongs to.
        benchmarks: label of each benchmark by the digest of its rows.
    """
    known = benchmarks or {}
    splits = sorted(version.split_row_counts, key=lambda split: (_place(split), split))
    return m.Dataset(
        label=label,
        task=task,
        version=version.name,
        digest=version.digest,
        kind="document" if version.kind == dataset_pb2.DATASET_KIND_DOCUMENT else "conversation",
        rows_in=version.input_row_count,
        removed=[m.Removal(step=r.step, reason=r.reason, rows=r.row_count) for r in version.removals],
        quarantined=version.quarantined_row_count,
        splits={split: version.split_row_counts[split] for split in splits},
        decontaminated_against=[known.get(digest, digest) for digest in version.decontaminated_against],
    )


def _place(split: str) -> int:
    return _SPLIT_ORDER.index(split) if split in _SPLIT_ORDER else len(_SPLIT_ORDER)


def losses(events: Iterable[job_service_pb2.JobEvent]) -> list[m.LossPoint]:
    """The loss curves in a training job's events. Of a step measured again after a restart the last one counts."""
    found: dict[tuple[Literal["train", "validation"], int], float] = {}
    for event in events:
        metric = event.metric
        if event.HasField("metric") and metric.name in _LOSSES and metric.HasField("step"):
            found[_LOSSES[metric.name], metric.step] = metric.value
    return [m.LossPoint(step=step, loss=loss, split=split) for (split, step), loss in sorted(found.items())]


def best_step(points: Sequence[m.LossPoint]) -> int | None:
    """The step with the lowest validation loss, the first of equals; None when none was measured."""
    measured = [point for point in points if point.split == "validation"]
    return min(measured, key=lambda point: (point.loss, point.step)).step if measured else None


def plan_items(
    plan: training_service_pb2.TrainingPlan,
    version: adapter_pb2.AdapterVersion,
    *,
    seconds: float | None = None,
    memory_bytes: float | None = None,
) -> list[m.PlanItem]:
    """The plan beside what came of it.

    Args:
        plan: what `PlanTraining` said.
        version: what was trained.
        seconds: how long the job took, its start included.
        memory_bytes: peak memory it measured.
    """
    gib = 1 << 30
    return [
        m.PlanItem(
            quantity="time",
            unit="s",
            planned=plan.duration_seconds if plan.HasField("duration_seconds") else None,
            actual=seconds,
        ),
        m.PlanItem(
            quantity="peak memory",
            unit="GiB",
            planned=plan.memory_bytes / gib,
            actual=None if memory_bytes is None else memory_bytes / gib,
        ),
        m.PlanItem(
            quantity="optimizer steps", unit="steps", planned=plan.step_count, actual=version.step_count or None
        ),
        m.PlanItem(quantity="rows", unit="rows", planned=plan.row_count),
        m.PlanItem(quantity="rows longer than the context", unit="rows", planned=plan.too_long_count),
        m.PlanItem(quantity="tokens per epoch", unit="tokens", planned=plan.tokens_per_epoch),
        m.PlanItem(quantity="trained tokens", unit="tokens", actual=version.token_count or None),
        m.PlanItem(quantity="packing efficiency", planned=plan.packing_efficiency),
    ]


def parity(certificate: adapter_pb2.ParityCertificate) -> m.Parity:
    """A parity certificate."""
    return m.Parity(
        passed=certificate.passed,
        samples=certificate.sample_count,
        tokens=certificate.token_count,
        token_ids_equal=certificate.token_ids_equal,
        max_logprob_difference=certificate.max_logprob_difference,
        tolerance=certificate.tolerance,
        dtype=certificate.dtype,
        engines=certificate.engines,
    )


def training(
    version: adapter_pb2.AdapterVersion,
    label: str,
    task: str,
    *,
    spec: training_service_pb2.TrainingSpec | None = None,
    events: Iterable[job_service_pb2.JobEvent] = (),
    plan: Sequence[m.PlanItem] = (),
    stopped_early: bool | None = None,
) -> m.Training:
    """One adapter and how it was trained.

    Args:
        version: what was trained.
        label: what people call it; its label in the matrix as well.
        task: what it was trained for.
        spec: how it was to be trained.
        events: the job's events, for the curves.
        plan: from `plan_items`.
        stopped_early: whether the validation loss ended it; None when unknown.
    """
    points = losses(events)
    return m.Training(
        label=label,
        task=task,
        adapter_version=version.name,
        digest=version.digest,
        base_model=version.base_model,
        dataset_version=", ".join(version.dataset_versions),
        method=version.method,
        settings={} if spec is None else MessageToDict(spec, preserving_proto_field_name=True),
        losses=points,
        best_step=best_step(points),
        stopped_early=stopped_early,
        plan=list(plan),
        parity=parity(version.parity) if version.HasField("parity") else None,
    )


def matrix(
    evaluations: Mapping[str, evaluation_pb2.Evaluation],
    benchmarks: Mapping[str, evaluation_pb2.Benchmark],
    own: Mapping[str, str],
) -> m.Matrix:
    """All models on all benchmarks.

    Args:
        evaluations: of each model, by its label, in the order shown; the base first.
        benchmarks: by their labels, in the order shown.
        own: label of the benchmark that is a model's own task, by the model's label; the base has none.
    """
    labels = {benchmark.name: label for label, benchmark in benchmarks.items()}
    cells = [
        m.Cell(
            model=label,
            benchmark=labels[result.benchmark],
            metric=result.metric,
            number=number(result.estimate),
            gain=number(result.gain) if result.HasField("gain") else None,
            higher_is_better=result.higher_is_better,
        )
        for label, evaluation in evaluations.items()
        for result in evaluation.results
        if result.benchmark in labels
    ]
    return m.Matrix(
        models=[
            m.MatrixModel(label=label, resource=found.target, evaluation=found.name, task=own.get(label))
            for label, found in evaluations.items()
        ],
        benchmarks=[
            m.MatrixBenchmark(label=label, resource=found.name, rows=found.row_count)
            for label, found in benchmarks.items()
        ],
        metrics=list(dict.fromkeys(cell.metric for cell in cells)),
        cells=cells,
        contamination=[part for label, found in evaluations.items() for part in _contamination(label, found, labels)],
    )


def _contamination(
    label: str, evaluation: evaluation_pb2.Evaluation, labels: Mapping[str, str]
) -> list[m.Contamination]:
    by_benchmark: dict[str, list[evaluation_pb2.ContaminationCheck]] = {}
    for check in evaluation.contamination:
        by_benchmark.setdefault(check.benchmark, []).append(check)
    return [
        m.Contamination(
            model=label,
            benchmark=labels[benchmark],
            checked=all(check.decontaminated for check in checks),
            removed_rows=sum(check.removed_row_count for check in checks),
        )
        for benchmark, checks in by_benchmark.items()
        if benchmark in labels
    ]


def judgement(label: str, evaluation: evaluation_pb2.Evaluation, benchmarks: Mapping[str, str]) -> m.Judgement | None:
    """The verdict on one model; None when it was judged by no policy.

    Args:
        label: the model's label.
        evaluation: its evaluation.
        benchmarks: label of each benchmark by its resource name.
    """
    if evaluation.verdict not in _VERDICTS:
        return None
    return m.Judgement(
        model=label,
        evaluation=evaluation.name,
        verdict=_VERDICTS[evaluation.verdict],
        policy_digest=evaluation.policy_digest,
        rules=[
            m.RuleResult(
                benchmark=benchmarks.get(result.rule.benchmark, result.rule.benchmark),
                metric=result.rule.metric,
                verdict=_VERDICTS[result.verdict],
                explanation=result.explanation,
            )
            for result in evaluation.rule_results
        ],
    )


def deployment(made: deployment_pb2.Deployment) -> m.Deployment:
    """A deployment whose gate opened."""
    return m.Deployment(
        name=made.name,
        adapter_version=made.adapter_version,
        adapter_digest=made.adapter_digest,
        evaluation=made.evaluation,
        policy_digest=made.policy_digest,
    )
