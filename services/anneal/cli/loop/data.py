"""The stage of data: documents -> rows -> curated rows, and the test sets that they are decontaminated against."""

from __future__ import annotations

import hashlib

import grpc

from anneal.cli.loop import encode
from anneal.cli.loop.desk import Desk, only
from anneal.cli.loop.recipe import Task
from anneal.cli.report import model
from anneal.v1 import curation_service_pb2 as curation
from anneal.v1 import dataset_pb2, evaluation_pb2
from anneal.v1 import ingestion_service_pb2 as ingestion
from anneal.v1 import registry_service_pb2 as registry
from anneal.v1 import synthesis_service_pb2 as synthesis


class Data:
    """Makes every task's rows.

    Attributes:
        benchmarks: `name of a registered test set -> task`.
        versions: `task -> its rows`, decontaminated.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._task_of_rows: dict[str, str] = {}
        self.benchmarks: dict[str, str] = {}
        self.versions: dict[str, dataset_pb2.DatasetVersion] = {}

    def run(self) -> None:
        """Make all of it."""
        tasks = self._desk.recipe.tasks
        documents = self._ingest()
        split = {task.name: self._curate(task, self._synthesize(task, documents)) for task in tasks}
        for task in tasks:
            self._register_benchmark(task, split[task.name])
        for task in tasks:
            self.versions[task.name] = self._decontaminate(task, split[task.name])

    def _ingest(self) -> dataset_pb2.DatasetVersion:
        documents = self._desk.recipe.documents
        made = dataset_pb2.DatasetVersion()
        with self._desk.step("ingest") as step:
            paths = [self._desk.loaded.path(file) for file in documents.files]
            uploads = [self._desk.client.upload(path, path.name).name for path in paths]
            request = ingestion.IngestDocumentsRequest(
                parent=self._desk.parent,
                dataset_id=documents.dataset,
                uploads=uploads,
                include=documents.include,
                license=documents.license,
            )
            if documents.chunking is not None:
                request.chunking.CopyFrom(ingestion.Chunking(**documents.chunking.model_dump()))
            self._desk.job(step, self._desk.client.ingestion.IngestDocuments, request, "ingest", made)
            step.detail = f"{made.row_count:,} documents, {made.quarantined_row_count:,} quarantined"
        self._desk.report.datasets.append(encode.dataset("documents", None, made))
        return made

    def _synthesize(self, task: Task, documents: dataset_pb2.DatasetVersion) -> dataset_pb2.DatasetVersion:
        recipe = synthesis.SynthesisRecipe(generator="template")
        recipe.params.update({"tasks": [self._desk.loaded.template(task)]})
        request = synthesis.SynthesizeDatasetRequest(
            parent=self._desk.parent, dataset_id=f"{task.name}-rows", source=documents.name, recipe=recipe
        )
        made = dataset_pb2.DatasetVersion()
        with self._desk.step(f"synthesize {task.name}") as step:
            self._desk.job(step, self._desk.client.synthesis.SynthesizeDataset, request, "synthesize", made)
            step.detail = f"{made.row_count:,} rows"
        self._desk.report.datasets.append(encode.dataset(f"{task.name}: synthesized", task.name, made))
        return made

    def _curate(self, task: Task, rows: dataset_pb2.DatasetVersion) -> dataset_pb2.DatasetVersion:
        steps = self._desk.loaded.steps(task)
        return self._curation(task, f"{task.name}-split", rows, steps, "curate", "curated and split")

    def _decontaminate(self, task: Task, rows: dataset_pb2.DatasetVersion) -> dataset_pb2.DatasetVersion:
        step = curation.CurationStep(step="decontaminate")
        step.params.update({**self._desk.recipe.decontamination, "benchmarks": sorted(self.benchmarks)})
        made = self._curation(task, task.name, rows, [step], "decontaminate", "decontaminated")
        against = {self._task_of_rows.get(digest, digest) for digest in made.decontaminated_against}
        self._desk.report.datasets[-1].decontaminated_against = sorted(against)
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
            parent=self._desk.parent, dataset_id=dataset_id, sources=[rows.name], steps=steps
        )
        made = dataset_pb2.DatasetVersion()
        with self._desk.step(f"{verb} {task.name}") as step:
            self._desk.job(step, self._desk.client.curation.CurateDataset, request, "curate", made)
            removed = sum(r.row_count for r in made.removals)
            splits = ", ".join(f"{n:,} {split}" for split, n in sorted(made.split_row_counts.items()))
            step.detail = f"{made.input_row_count:,} in, {removed:,} removed: {splits}"
        self._desk.report.datasets.append(encode.dataset(f"{task.name}: {label}", task.name, made))
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
        name = f"{self._desk.parent}/benchmarks/{benchmark_id}"
        with self._desk.step(f"register test set {task.name}") as step:
            try:
                made = self._desk.client.registry.GetBenchmark(registry.GetBenchmarkRequest(name=name))
                step.state = "skipped"
            except grpc.RpcError as error:
                only(error, grpc.StatusCode.NOT_FOUND)
                made = self._desk.client.registry.CreateBenchmark(
                    registry.CreateBenchmarkRequest(
                        parent=self._desk.parent, benchmark_id=benchmark_id, benchmark=wanted
                    )
                )
            step.detail = f"{made.row_count:,} rows"
        self.benchmarks[made.name] = task.name
        self._task_of_rows[made.dataset_digest] = task.name
        self._desk.report.matrix.benchmarks.append(
            model.MatrixBenchmark(label=task.name, resource=made.name, rows=made.row_count)
        )

    def benchmark(self, task: Task) -> str:
        """The name of a task's test set."""
        return next(name for name, label in self.benchmarks.items() if label == task.name)
