"""`kill -9` of the server in the middle of ingest, curate and train: nothing lost, doubled or half-visible."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf.message import Message

from anneal.cli.base_models import import_model
from anneal.cli.client import Client
from anneal.cli.loop.recipe import load
from anneal.kit.datasets import DatasetWriter
from anneal.kit.records import to_table
from anneal.kit.store import Store
from anneal.v1 import adapter_pb2, dataset_pb2
from anneal.v1 import curation_service_pb2 as curation
from anneal.v1 import ingestion_service_pb2 as ingestion
from anneal.v1 import job_service_pb2 as jobs
from anneal.v1 import registry_service_pb2 as registry
from anneal.v1 import synthesis_service_pb2 as synthesis
from anneal.v1 import training_service_pb2 as training
from tests.contract.curation.house import many_rows, step
from tests.e2e.small_loop import EXAMPLE, small_recipe
from tests.fixtures.local_system import System

ROWS = 120_000

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.vllm, pytest.mark.timeout(900)]


class Killed:
    """A system that is killed while a job runs, started again, and asked for what the job made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.system = System(folder)
        self.client = self._connect()

    def _connect(self) -> Client:
        return Client(self.system.grpc, project="p")

    def undisturbed(self, call: str, order: Any, kind: str, result: Message) -> None:
        """Run a job to its end."""
        service, method = call.split(".")
        self.client.run(getattr(getattr(self.client, service), method), order, kind, result, lambda _: None)

    def disturbed(
        self, call: str, order: Any, result: Message, is_time: Callable[[jobs.JobMetadata], bool], dataset: str = ""
    ) -> int:
        """Kill the server with SIGKILL in the middle of a job; returns the attempts the job took.

        `is_time` says by the job's metadata when to strike; of the dataset nothing may be seen before the job's end.
        """
        service, method = call.split(".")
        name = getattr(getattr(self.client, service), method)(order).name
        deadline = time.monotonic() + 240
        while not is_time(self._metadata(name)):
            assert time.monotonic() < deadline, "the job never came so far"
            time.sleep(0.05)
        self.system.kill()
        self.client.close()
        self.system = System(self.folder)
        self.client = self._connect()
        assert self._metadata(name).attempt >= 1
        if dataset:
            assert self.versions(dataset) == []
        ended = self.client.wait(name, lambda _: None)
        ended.response.Unpack(result)
        metadata = jobs.JobMetadata()
        ended.metadata.Unpack(metadata)
        assert "ended with its server" in metadata.last_failure, "the next attempt waited for the lease of the last one"
        return metadata.attempt

    def _metadata(self, name: str) -> jobs.JobMetadata:
        metadata = jobs.JobMetadata()
        operation = self.client.operations.GetOperation(operations_pb2.GetOperationRequest(name=name))
        assert not operation.done, f"too late: {operation}"
        operation.metadata.Unpack(metadata)
        return metadata

    def versions(self, dataset: str) -> list[str]:
        """Digests of every version of a dataset."""
        request = registry.ListDatasetVersionsRequest(parent=f"{self.client.parent}/datasets/{dataset}")
        try:
            return [version.digest for version in self.client.registry.ListDatasetVersions(request).dataset_versions]
        except grpc.RpcError as error:
            missing: Any = error
            assert missing.code() is grpc.StatusCode.NOT_FOUND
            return []

    def publish(self, dataset: str, rows: list[dict[str, Any]]) -> dataset_pb2.DatasetVersion:
        """Put rows into the store and name them."""
        writer = DatasetWriter(self.store, "conversation")
        writer.add(to_table("conversation", rows), split="train")
        version = dataset_pb2.DatasetVersion(
            digest=writer.finish(rows_in=len(rows)).digest, kind=dataset_pb2.DATASET_KIND_CONVERSATION
        )
        return self.client.registry.CreateDatasetVersion(
            registry.CreateDatasetVersionRequest(
                parent=f"{self.client.parent}/datasets/{dataset}", dataset_version=version
            )
        )

    @property
    def store(self) -> Store:
        """The system's store."""
        return Store(str(self.folder / "store"), self.folder / "cache")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    made = Killed(tmp_path_factory.mktemp("killed") / "data")
    try:
        yield made
    finally:
        made.system.stop()


def has_progress(at_least: int) -> Callable[[jobs.JobMetadata], bool]:
    return lambda metadata: metadata.progress.done >= at_least


@pytest.fixture(scope="module")
def pages(killed: Killed) -> dataset_pb2.DatasetVersion:
    """The documents, ingested twice: once with the server killed in the middle, once in peace."""
    upload = killed.client.upload(EXAMPLE / "python-3.11-docs.tar.xz", "docs.tar.xz").name
    include = ["library/[a-k]*.html"]

    def order(dataset: str) -> ingestion.IngestDocumentsRequest:
        return ingestion.IngestDocumentsRequest(
            parent=killed.client.parent, dataset_id=dataset, uploads=[upload], include=include
        )

    disturbed, calm = dataset_pb2.DatasetVersion(), dataset_pb2.DatasetVersion()
    attempts = killed.disturbed(
        "ingestion.IngestDocuments", order("disturbed"), disturbed, has_progress(5), "disturbed"
    )
    killed.undisturbed("ingestion.IngestDocuments", order("calm"), "ingest", calm)
    assert attempts >= 2
    assert disturbed.digest == calm.digest
    assert killed.versions("disturbed") == [disturbed.digest]
    return calm


def test_ingest(pages: dataset_pb2.DatasetVersion) -> None:
    assert pages.row_count > 100


@pytest.fixture(scope="module")
def rows(killed: Killed, pages: dataset_pb2.DatasetVersion, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Rows of one task, to train on."""
    loaded = load(small_recipe(tmp_path_factory.mktemp("recipe")))
    task = loaded.recipe.tasks[0]
    recipe = synthesis.SynthesisRecipe(generator="template")
    recipe.params.update({"tasks": [loaded.template(task)]})
    raw = dataset_pb2.DatasetVersion()
    request = synthesis.SynthesizeDatasetRequest(
        parent=killed.client.parent, dataset_id="raw", source=pages.name, recipe=recipe
    )
    killed.undisturbed("synthesis.SynthesizeDataset", request, "synthesize", raw)

    curated = dataset_pb2.DatasetVersion()
    order = curation.CurateDatasetRequest(
        parent=killed.client.parent, dataset_id="curated", sources=[raw.name], steps=loaded.steps(task)
    )
    killed.undisturbed("curation.CurateDataset", order, "curate", curated)
    return curated, loaded, task


def test_curate(killed: Killed) -> None:
    # Enough rows, and two steps slow enough, that the job can be met in the middle.
    source = killed.publish("many", many_rows(ROWS)).name
    steps = [step("language", allowed=["en"]), step("repetition")]
    steps += [step(name) for name in ("exact_duplicates", "fuzzy_duplicates", "split")]

    def order(dataset: str) -> curation.CurateDatasetRequest:
        return curation.CurateDatasetRequest(
            parent=killed.client.parent, dataset_id=dataset, sources=[source], steps=steps
        )

    disturbed, calm = dataset_pb2.DatasetVersion(), dataset_pb2.DatasetVersion()
    attempts = killed.disturbed(
        "curation.CurateDataset", order("c-disturbed"), disturbed, has_progress(1), "c-disturbed"
    )
    killed.undisturbed("curation.CurateDataset", order("c-calm"), "curate", calm)
    assert attempts >= 2
    assert disturbed.digest == calm.digest
    assert killed.versions("c-disturbed") == [disturbed.digest]
    left = sum(removal.row_count for removal in disturbed.removals)
    assert disturbed.input_row_count == ROWS == disturbed.row_count + left + disturbed.quarantined_row_count


def test_train(killed: Killed, rows: Any) -> None:
    version, loaded, task = rows
    base = import_model(killed.client, "tiny", loaded.base_model, lambda _: None).model
    spec = loaded.training_spec(task)
    spec.checkpoint_steps = 2

    def order(adapter: str) -> training.CreateTrainingJobRequest:
        return training.CreateTrainingJobRequest(
            parent=killed.client.parent,
            base_model=base.name,
            dataset_versions=[version.name],
            spec=spec,
            output_id=adapter,
        )

    disturbed, calm = adapter_pb2.AdapterVersion(), adapter_pb2.AdapterVersion()
    attempts = killed.disturbed("training.CreateTrainingJob", order("disturbed"), disturbed, has_progress(3))
    killed.undisturbed("training.CreateTrainingJob", order("calm"), "train", calm)
    assert attempts >= 2
    assert disturbed.validation_loss == calm.validation_loss
    assert disturbed.step_count == calm.step_count
    weights = {
        name: made["adapter_model.safetensors"]["digest"]
        for name, made in ((a.name, killed.store.tree(a.digest)) for a in (disturbed, calm))
    }
    assert len(set(weights.values())) == 1, "a resumed training must end in the same weights, bit for bit"
