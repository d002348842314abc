"""The loop itself: documents -> rows -> curated rows -> plan -> adapters -> scores -> deployments -> answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import grpc

from anneal.cli.base_models import import_model
from anneal.cli.client import Client, Done
from anneal.cli.loop import ask, encode, lineage
from anneal.cli.loop.recipe import Loaded, Task
from anneal.cli.output import Output, Watcher, explain
from anneal.cli.report import model
from anneal.kit.rpc.status import refusal_of
from anneal.v1 import adapter_pb2, dataset_pb2, deployment_pb2, evaluation_pb2, model_pb2
from anneal.v1 import curation_service_pb2 as curation
from anneal.v1 import evaluation_service_pb2 as evaluation
from anneal.v1 import ingestion_service_pb2 as ingestion
from anneal.v1 import job_service_pb2 as jobs
from anneal.v1 import registry_service_pb2 as registry
from anneal.v1 import synthesis_service_pb2 as synthesis
from anneal.v1 import training_service_pb2 as training


class LoopFailed(Exception):
    """The loop cannot go on; the text says why."""


class GateLeaked(LoopFailed):
    """The registry deployed an adapter that has no GO."""


class Loop:
    """Runs a recipe against a running Anneal, filling a report on the way."""

    def __init__(self, client: Client, http_address: str, loaded: Loaded, output: Output, command: str) -> None:
        self._client = client
        self._http = http_address
        self._loaded = loaded
        self._recipe = loaded.recipe
        self._output = output
        self.report = model.Report(
            title=self._recipe.title,
            started=datetime.now(UTC),
            command=command,
            settings=self._recipe.model_dump(mode="json"),
            environment=encode.environment(),
        )
        self._benchmarks: dict[str, str] = {}
        self._task_of_rows: dict[str, str] = {}
        self._adapters: dict[str, adapter_pb2.AdapterVersion] = {}
        self._evaluations: dict[str, evaluation_pb2.Evaluation] = {}
        self._versions: dict[str, dataset_pb2.DatasetVersion] = {}

    def run(self) -> None:
        """Run every step.

        Raises:
            OperationFailed: a job failed.
            LoopFailed: an adapter did not pass its policy, or the gate did not hold.
        """
        tasks = self._recipe.tasks
        base = self._import_model()
        documents = self._ingest()
        split = {task.name: self._curate(task, self._synthesize(task, documents)) for task in tasks}
        for task in tasks:
            self._register_benchmark(task, split[task.name])
        for task in tasks:
            self._versions[task.name] = self._decontaminate(task, split[task.name])
        for task in tasks:
            self._adapters[task.name] = self._train(task, base)
        self._check_gate(tasks[0])
        self._evaluate(base)
        deployed = {task.name: self._deploy(task) for task in tasks}
        self._ask(deployed)
        first = self.report.questions[0]
        with self._step("trace lineage") as step:
            name = tasks[0].name
            self.report.lineage = lineage.trace(self._client, first, deployed[name], self._adapters[name])
            step.detail = f"{len(self.report.lineage)} hops from an answer to its document"

    # -- bookkeeping ---------------------------------------------------------------------------------------------

    @contextmanager
    def _step(self, name: str) -> Iterator[model.Step]:
        """Time a step, print its line, and keep it in the report, also when it fails."""
        step = model.Step(name=name, seconds=0.0)
        start = perf_counter()
        try:
            yield step
        except BaseException as error:
            step.state, step.detail = "failed", explain(error)
            raise
        finally:
            step.seconds = perf_counter() - start
            self.report.steps.append(step)
            mark = {"done": "done", "skipped": "unchanged, skipped", "failed": "FAILED"}[step.state]
            self._output.line(f"{name:<28} {step.seconds:7.1f} s  {mark:<18} {step.detail}")

    def _job(self, step: model.Step, call: Callable[[Any], Any], request: Any, kind: str, result: Any) -> _Ran:
        """Run a long-running operation, or find it done, and note it in the step."""
        with self._output.job(step.name) as watcher:
            done = self._client.run(call, request, kind, result, watcher)
        if done.skipped:
            step.state = "skipped"
        step.operation = done.operation.name
        return _Ran(done, watcher)

    # -- data ----------------------------------------------------------------------------------------------------

    def _import_model(self) -> model_pb2.Model:
        source = self._recipe.base_model
        request = training.ImportModelRequest(parent=self._client.parent, model_id=source.id, hub_id=source.hub_id)
        if source.folder is not None:
            request.folder = str(self._loaded.path(source.folder))
        with self._step("import base model") as step:
            with self._output.job(step.name) as watcher:
                made, done = import_model(self._client, request, watcher)
            step.state, step.operation = "skipped" if done.skipped else "done", done.operation.name
            step.detail = f"{made.architecture}, {made.parameter_count / 1e6:.1f} M parameters, {made.digest[7:19]}"
        return made

    def _ingest(self) -> dataset_pb2.DatasetVersion:
        documents = self._recipe.documents
        made = dataset_pb2.DatasetVersion()
        with self._step("ingest") as step:
            paths = [self._loaded.path(file) for file in documents.files]
            uploads = [self._client.upload(path, path.name).name for path in paths]
            request = ingestion.IngestDocumentsRequest(
                parent=self._client.parent,
                dataset_id=documents.dataset,
                uploads=uploads,
                include=documents.include,
                license=documents.license,
            )
            self._job(step, self._client.ingestion.IngestDocuments, request, "ingest", made)
            step.detail = f"{made.row_count:,} documents, {made.quarantined_row_count:,} quarantined"
        self.report.datasets.append(encode.dataset("documents", None, made))
        return made

    def _synthesize(self, task: Task, documents: dataset_pb2.DatasetVersion) -> dataset_pb2.DatasetVersion:
        recipe = synthesis.SynthesisRecipe(generator="template")
        recipe.params.update({"tasks": [self._loaded.template(task)]})
        request = synthesis.SynthesizeDatasetRequest(
            parent=self._client.parent, dataset_id=f"{task.name}-rows", source=documents.name, recipe=recipe
        )
        made = dataset_pb2.DatasetVersion()
        with self._step(f"synthesize {task.name}") as step:
            self._job(step, self._client.synthesis.SynthesizeDataset, request, "synthesize", made)
            step.detail = f"{made.row_count:,} rows"
        self.report.datasets.append(encode.dataset(f"{task.name}: synthesized", task.name, made))
        return made

    def _curate(self, task: Task, rows: dataset_pb2.DatasetVersion) -> dataset_pb2.DatasetVersion:
        steps = self._loaded.steps(task)
        return self._curation(task, f"{task.name}-split", rows, steps, "curate", "curated and split")

    def _decontaminate(self, task: Task, rows: dataset_pb2.DatasetVersion) -> dataset_pb2.DatasetVersion:
        step = curation.CurationStep(step="decontaminate")
        step.params.update({**self._recipe.decontamination, "benchmarks": sorted(self._benchmarks)})
        made = self._curation(task, task.name, rows, [step], "decontaminate", "decontaminated")
        against = {self._task_of_rows.get(digest, digest) for digest in made.decontaminated_against}
        self.report.datasets[-1].decontaminated_against = sorted(against)
        return made

    def _curation(
        self,
        task: Task,
        dataset_id: str,
        rows: dataset_pb2.DatasetVersion,
        steps: list[curation.CurationStep],
        verb: str,
        label: str,
    ) -> dataset_pb2.DatasetVersion:
        request = curation.CurateDatasetRequest(
            parent=self._client.parent, dataset_id=dataset_id, sources=[rows.name], steps=steps
        )
        made = dataset_pb2.DatasetVersion()
        with self._step(f"{verb} {task.name}") as step:
            self._job(step, self._client.curation.CurateDataset, request, "curate", made)
            removed = sum(r.row_count for r in made.removals)
            splits = ", ".join(f"{n:,} {split}" for split, n in sorted(made.split_row_counts.items()))
            step.detail = f"{made.input_row_count:,} in, {removed:,} removed: {splits}"
        self.report.datasets.append(encode.dataset(f"{task.name}: {label}", task.name, made))
        return made

    def _register_benchmark(self, task: Task, rows: dataset_pb2.DatasetVersion) -> None:
        wanted = evaluation_pb2.Benchmark(
            dataset_version=rows.name,
            split="test",
            metrics=task.metrics,
            max_tokens=task.max_tokens,
            answer_format=task.answer_format,
        )
        suffix = hashlib.sha256(wanted.SerializeToString(deterministic=True)).hexdigest()[:8]
        benchmark_id = f"{task.name}-{suffix}"
        name = f"{self._client.parent}/benchmarks/{benchmark_id}"
        with self._step(f"register test set {task.name}") as step:
            try:
                made = self._client.registry.GetBenchmark(registry.GetBenchmarkRequest(name=name))
                step.state = "skipped"
            except grpc.RpcError as error:
                _only(error, grpc.StatusCode.NOT_FOUND)
                made = self._client.registry.CreateBenchmark(
                    registry.CreateBenchmarkRequest(
                        parent=self._client.parent, benchmark_id=benchmark_id, benchmark=wanted
                    )
                )
            step.detail = f"{made.row_count:,} rows"
        self._benchmarks[made.name] = task.name
        self._task_of_rows[made.dataset_digest] = task.name
        self.report.matrix.benchmarks.append(
            model.MatrixBenchmark(label=task.name, resource=made.name, rows=made.row_count)
        )

    def _benchmark(self, task: Task) -> str:
        return next(name for name, label in self._benchmarks.items() if label == task.name)

    # -- training ------------------------------------------------------------------------------------------------

    def _train(self, task: Task, base: model_pb2.Model) -> adapter_pb2.AdapterVersion:
        spec = self._loaded.training_spec(task)
        version = self._versions[task.name].name
        with self._step(f"plan {task.name}") as step:
            plan = self._client.training.PlanTraining(
                training.PlanTrainingRequest(
                    parent=self._client.parent, base_model=base.name, dataset_versions=[version], spec=spec
                ),
                timeout=300,
            )
            took = f", about {plan.duration_seconds:.0f} s" if plan.HasField("duration_seconds") else ""
            step.detail = (
                f"{plan.row_count:,} rows, {plan.tokens_per_epoch:,} tokens an epoch, {plan.step_count:,} steps, "
                f"loss on {plan.mask_coverage:.0%}, packed {plan.packing_efficiency:.0%}{took}"
            )
        for warning in plan.warnings:
            self._output.line(f"  plan {task.name}: {warning}")
        request = training.CreateTrainingJobRequest(
            parent=self._client.parent,
            base_model=base.name,
            dataset_versions=[version],
            spec=spec,
            output_id=task.name,
        )
        made = adapter_pb2.AdapterVersion()
        with self._step(f"train {task.name}") as step:
            ran = self._job(step, self._client.training.CreateTrainingJob, request, "train", made)
            metrics = ran.metrics(self._client)
            best = f", best validation loss {made.validation_loss:.3f}" if made.HasField("validation_loss") else ""
            parity = f"parity {made.parity.max_logprob_difference:.1e}"
            step.detail = f"{made.step_count} steps, {made.token_count:,} tokens{best}, {parity}"
        self.report.trainings.append(encode.trained(task.name, made, spec, plan, metrics, ran.seconds()))
        return made

    # -- the gate ------------------------------------------------------------------------------------------------

    def _wanted(self, task: Task) -> deployment_pb2.Deployment:
        return deployment_pb2.Deployment(
            adapter_version=self._adapters[task.name].name,
            policy=self._loaded.policy(task, self._benchmark(task)),
        )

    def _check_gate(self, task: Task) -> None:
        """Ask for a deployment under a policy nobody was judged by: the registry must refuse."""
        wanted = self._wanted(task)
        wanted.policy.min_scored_rows += 1
        with self._step("knock at the closed gate") as step:
            try:
                self._client.registry.CreateDeployment(
                    registry.CreateDeploymentRequest(
                        parent=self._client.parent,
                        deployment_id=f"{task.name}-unjudged",
                        deployment=wanted,
                        validate_only=True,
                    )
                )
            except grpc.RpcError as error:
                refusal = refusal_of(error)
                if refusal is None or refusal.reason != "GATE_CLOSED":
                    raise
                step.detail = "refused, as it must be: GATE_CLOSED"
                self.report.deployments.append(
                    model.Deployment(
                        name=f"{self._client.parent}/deployments/{task.name}-unjudged",
                        adapter_version=wanted.adapter_version,
                        refusal=f"{refusal.reason}: {refusal}",
                    )
                )
            else:
                raise GateLeaked(f"{wanted.adapter_version} was accepted for deployment without a GO for its policy")

    def _evaluate(self, base: model_pb2.Model) -> None:
        names = [b.resource for b in self.report.matrix.benchmarks]
        self.report.matrix.metrics = list(dict.fromkeys(m for t in self._recipe.tasks for m in t.metrics))
        baseline = self._evaluate_one("base", base.name, names, None)
        for task in self._recipe.tasks:
            request = evaluation.EvaluateModelRequest(
                baseline=baseline.name, policy=self._loaded.policy(task, self._benchmark(task))
            )
            found = self._evaluate_one(task.name, self._adapters[task.name].name, names, request)
            self.report.judgements.append(encode.judgement(task.name, self._benchmarks, found))

    def _evaluate_one(
        self, label: str, target: str, benchmarks: list[str], request: evaluation.EvaluateModelRequest | None
    ) -> evaluation_pb2.Evaluation:
        request = request or evaluation.EvaluateModelRequest()
        request.parent, request.target = self._client.parent, target
        request.benchmarks.extend(benchmarks)
        request.max_rows = self._recipe.evaluation_rows
        suffix = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()[:8]
        request.evaluation_id = f"{label}-{suffix}"
        made = evaluation_pb2.Evaluation()
        with self._step(f"evaluate {label}") as step:
            self._job(step, self._client.evaluation.EvaluateModel, request, "evaluate", made)
            scored = sum(r.estimate.scored_count for r in made.results)
            verdict = encode.judgement(label, self._benchmarks, made).verdict if request.HasField("policy") else ""
            step.detail = f"{len(benchmarks)} test sets, {scored:,} scores {verdict}".strip()
        self._evaluations[label] = made
        matrix = self.report.matrix
        task = label if label in self._benchmarks.values() else None
        matrix.models.append(model.MatrixModel(label=label, resource=target, evaluation=made.name, task=task))
        matrix.cells.extend(encode.cells(label, self._benchmarks, made))
        matrix.contamination.extend(encode.contamination(label, self._benchmarks, made))
        return made

    def _deploy(self, task: Task) -> deployment_pb2.Deployment:
        wanted = self._wanted(task)
        name = f"{self._client.parent}/deployments/{task.name}"
        with self._step(f"deploy {task.name}") as step:
            try:
                made = self._create_or_switch(task, name, wanted, step)
            except grpc.RpcError as error:
                refusal = refusal_of(error)
                if refusal is None:
                    raise
                text = f"{refusal.reason}: {refusal}"
                self.report.deployments.append(
                    model.Deployment(name=name, adapter_version=wanted.adapter_version, refusal=text)
                )
                raise LoopFailed(f"{task.name} was not deployed: {text}") from None
            step.detail = f"admitted by {made.evaluation.rsplit('/', 1)[-1]}"
        self.report.deployments.append(
            model.Deployment(
                name=made.name,
                adapter_version=made.adapter_version,
                adapter_digest=made.adapter_digest,
                evaluation=made.evaluation,
                policy_digest=made.policy_digest,
            )
        )
        return made

    def _create_or_switch(
        self, task: Task, name: str, wanted: deployment_pb2.Deployment, step: model.Step
    ) -> deployment_pb2.Deployment:
        try:
            known = self._client.registry.GetDeployment(registry.GetDeploymentRequest(name=name))
        except grpc.RpcError as error:
            _only(error, grpc.StatusCode.NOT_FOUND)
            return self._client.registry.CreateDeployment(
                registry.CreateDeploymentRequest(parent=self._client.parent, deployment_id=task.name, deployment=wanted)
            )
        if known.adapter_version == wanted.adapter_version and known.policy == wanted.policy:
            step.state = "skipped"
            return known
        wanted.name, wanted.etag = name, known.etag
        request = registry.UpdateDeploymentRequest(deployment=wanted)
        request.update_mask.paths.extend(["adapter_version", "policy"])
        return self._client.registry.UpdateDeployment(request)

    # -- answers -------------------------------------------------------------------------------------------------

    def _ask(self, deployed: dict[str, deployment_pb2.Deployment]) -> None:
        for task in self._recipe.tasks:
            with self._step(f"ask {task.name}") as step:
                asker = ask.Asker(self._client, self._http, deployed[task.name].name, task.max_tokens)
                rows = ask.questions(self._client, self._versions[task.name].name, "test", self._recipe.ask.questions)
                asked = [asker(task.name, row) for row in rows]
                self.report.questions.extend(asked)
                answers = [answer for question in asked for answer in question.answers]
                step.detail = f"{len(asked)} questions, {len(answers)} answers in 4 ways"
            for question in asked:
                self._show(question)

    def _show(self, question: model.Question) -> None:
        line = self._output.line
        line(f"    question:  {_short(question.question)}")
        line(f"    reference: {_short(question.reference)}")
        told = {answer.text for answer in question.answers}
        if len(told) == 1:
            line(f"    answer:    {_short(told.pop())}  (the same over gRPC and HTTP, streamed and not)")
        else:
            for answer in question.answers:
                line(f"    {answer.via}: {_short(answer.text)}")


class _Ran:
    """A job that was run, or found done."""

    def __init__(self, done: Done, watcher: Watcher) -> None:
        self._done, self._watcher = done, watcher

    def metrics(self, client: Client) -> list[jobs.Metric]:
        """What the job measured; for a job found done, its events are read again."""
        if self._done.skipped:
            watched: list[jobs.Metric] = []
            client.wait(self._done.operation.name, lambda e: watched.append(e.metric) if e.HasField("metric") else None)
            return watched
        return self._watcher.metrics

    def seconds(self) -> float | None:
        """How long the job ran."""
        metadata = jobs.JobMetadata()
        self._done.operation.metadata.Unpack(metadata)
        if not metadata.HasField("end_time") or not metadata.HasField("start_time"):
            return None
        return (metadata.end_time.ToMicroseconds() - metadata.start_time.ToMicroseconds()) / 1e6


def _short(text: str, limit: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _only(error: grpc.RpcError, code: grpc.StatusCode) -> None:
    """Go on only when the call failed with this code."""
    failed: Any = error
    if failed.code() is not code:
        raise error
