"""The stage of models: a plan and an adapter for every task, and the matrix of their scores."""

from __future__ import annotations

import hashlib

from anneal.cli.base_models import import_model
from anneal.cli.loop import encode
from anneal.cli.loop.data import Data
from anneal.cli.loop.desk import Desk
from anneal.cli.loop.recipe import Task
from anneal.cli.report import model
from anneal.v1 import adapter_pb2, evaluation_pb2, model_pb2
from anneal.v1 import evaluation_service_pb2 as evaluation
from anneal.v1 import training_service_pb2 as training


class Models:
    """Trains and evaluates.

    Attributes:
        adapters: `task -> its adapter`.
    """

    def __init__(self, desk: Desk, data: Data) -> None:
        self._desk = desk
        self._data = data
        self.adapters: dict[str, adapter_pb2.AdapterVersion] = {}

    def train(self, base: model_pb2.Model) -> None:
        """Train every task's adapter."""
        for task in self._desk.recipe.tasks:
            self.adapters[task.name] = self._train(task, base)

    def import_base(self) -> model_pb2.Model:
        """Bring the recipe's base model in."""
        model_id, source = self._desk.recipe.base_model.id, self._desk.loaded.base_model
        with self._desk.step("import base model") as step:
            with self._desk.output.job(step.name) as watcher:
                imported = import_model(self._desk.client, model_id, source, watcher, self._desk.loaded.given)
            made = imported.model
            step.state, step.operation = "skipped" if imported.skipped else "done", imported.operation
            step.detail = f"{made.architecture}, {made.parameter_count / 1e6:.1f} M parameters, {made.digest[7:19]}"
            if imported.uploaded.sent_bytes:
                step.detail += f", sent {imported.uploaded.sent_bytes / 1e6:,.1f} MB"
        if imported.left_out:
            self._desk.output.line(f"  {step.name}: left out: {', '.join(imported.left_out)}")
        return made

    def _train(self, task: Task, base: model_pb2.Model) -> adapter_pb2.AdapterVersion:
        spec = self._desk.loaded.training_spec(task)
        version = self._data.versions[task.name].name
        with self._desk.step(f"plan {task.name}") as step:
            plan = self._desk.client.training.PlanTraining(
                training.PlanTrainingRequest(
                    parent=self._desk.parent, base_model=base.name, dataset_versions=[version], spec=spec
                ),
                timeout=300,
            )
            took = f", about {plan.duration_seconds:.0f} s" if plan.HasField("duration_seconds") else ""
            step.detail = (
                f"{plan.row_count:,} rows, {plan.tokens_per_epoch:,} tokens an epoch, {plan.step_count:,} steps, "
                f"loss on {plan.mask_coverage:.0%}, packed {plan.packing_efficiency:.0%}{took}"
            )
        for warning in plan.warnings:
            self._desk.output.line(f"  plan {task.name}: {warning}")
        request = training.CreateTrainingJobRequest(
            parent=self._desk.parent,
            base_model=base.name,
            dataset_versions=[version],
            spec=spec,
            output_id=task.name,
        )
        made = adapter_pb2.AdapterVersion()
        with self._desk.step(f"train {task.name}") as step:
            ran = self._desk.job(step, self._desk.client.training.CreateTrainingJob, request, "train", made)
            metrics = ran.metrics(self._desk.client)
            best = f", best validation loss {made.validation_loss:.3f}" if made.HasField("validation_loss") else ""
            parity = f"parity {made.parity.max_logprob_difference:.1e} in {made.parity.dtype}"
            step.detail = f"{made.step_count} steps, {made.token_count:,} tokens{best}, {parity}"
        self._desk.report.trainings.append(encode.trained(task.name, made, spec, plan, metrics, ran.seconds()))
        return made

    def evaluate(self, base: model_pb2.Model) -> None:
        """Score the base and every adapter on every test set."""
        names = [b.resource for b in self._desk.report.matrix.benchmarks]
        self._desk.report.matrix.metrics = list(dict.fromkeys(m for t in self._desk.recipe.tasks for m in t.metrics))
        baseline = self._evaluate_one("base", base.name, names, None)
        for task in self._desk.recipe.tasks:
            request = evaluation.EvaluateModelRequest(
                baseline=baseline.name, policy=self._desk.loaded.policy(task, self._data.benchmark(task))
            )
            found = self._evaluate_one(task.name, self.adapters[task.name].name, names, request)
            self._desk.report.judgements.append(encode.judgement(task.name, self._data.benchmarks, found))

    def _evaluate_one(
        self, label: str, target: str, benchmarks: list[str], request: evaluation.EvaluateModelRequest | None
    ) -> evaluation_pb2.Evaluation:
        request = request or evaluation.EvaluateModelRequest()
        request.parent, request.target = self._desk.parent, target
        request.benchmarks.extend(benchmarks)
        request.max_rows = self._desk.recipe.evaluation_rows
        suffix = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()[:8]
        request.evaluation_id = f"{label}-{suffix}"
        made = evaluation_pb2.Evaluation()
        with self._desk.step(f"evaluate {label}") as step:
            self._desk.job(step, self._desk.client.evaluation.EvaluateModel, request, "evaluate", made)
            scored = sum(r.estimate.scored_count for r in made.results)
            verdict = encode.judgement(label, self._data.benchmarks, made).verdict if request.HasField("policy") else ""
            step.detail = f"{len(benchmarks)} test sets, {scored:,} scores {verdict}".strip()
        matrix = self._desk.report.matrix
        task = label if label in self._data.benchmarks.values() else None
        matrix.models.append(model.MatrixModel(label=label, resource=target, evaluation=made.name, task=task))
        matrix.cells.extend(encode.cells(label, self._data.benchmarks, made))
        matrix.contamination.extend(encode.contamination(label, self._data.benchmarks, made))
        return made
