"""A registry with a base model, an adapter and benchmarks in it, and a way to wait for jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2

from anneal.kit.datasets import DatasetWriter
from anneal.kit.manifests import Manifest
from anneal.kit.records import RecordKind, conversation, document, to_table
from anneal.kit.rpc.server import Host
from anneal.kit.rpc.status import refusal_of
from anneal.v1 import adapter_pb2, dataset_pb2, evaluation_pb2, model_pb2
from anneal.v1 import evaluation_service_pb2 as pb
from anneal.v1 import registry_service_pb2 as registry_pb
from anneal.v1.evaluation_service_pb2_grpc import EvaluationServiceStub
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub

if TYPE_CHECKING:
    from anneal.v1.evaluation_service_pb2_grpc import EvaluationServiceAsyncStub
    from anneal.v1.registry_service_pb2_grpc import RegistryServiceAsyncStub

PROJECT = "projects/test"
WORDS = f"{PROJECT}/benchmarks/words"
METRICS = ("exact_match", "token_f1", "perplexity", "length")


def repeat_rows(count: int, *, sources: int = 20, **marks: str) -> list[dict[str, Any]]:
    """Rows that ask to repeat a few words; `marks` put a word into some prompts, such as `row3="LONG"`."""
    rows = []
    for index in range(count):
        text = f"{marks.get(f'row{index}', 'word')} {index}" + " more" * (index % 3)
        turns = [{"role": "user", "content": f"Repeat: {text}"}, {"role": "assistant", "content": text}]
        rows.append(conversation(turns, source=f"page{index % sources}"))
    return rows


@dataclass
class World:
    """What tests of evaluation stand on."""

    host: Host
    channel: grpc.aio.Channel
    model: model_pb2.Model = field(default_factory=model_pb2.Model)
    adapter: adapter_pb2.AdapterVersion = field(default_factory=adapter_pb2.AdapterVersion)

    @property
    def registry(self) -> RegistryServiceAsyncStub:
        return RegistryServiceStub(self.channel)

    @property
    def evaluation(self) -> EvaluationServiceAsyncStub:
        return EvaluationServiceStub(self.channel)

    async def fill(self) -> None:
        """A base model, and an adapter trained on a dataset that was decontaminated against the benchmark `words`."""
        store = self.host.store
        self.model = await self.registry.CreateModel(
            registry_pb.CreateModelRequest(
                parent=PROJECT, model_id="tiny", model=model_pb2.Model(digest=store.put_bytes(b"base"))
            )
        )
        benchmark = await self.benchmark("words", repeat_rows(40))
        trained = self.manifest(repeat_rows(5), split="train", against=[benchmark.dataset_digest])
        version = await self.dataset("trained", trained)
        self.adapter = await self.add_adapter("echo", b"adapter", [version.name])

    def manifest(
        self,
        rows: list[dict[str, Any]],
        *,
        split: str,
        kind: RecordKind = "conversation",
        against: list[str] | None = None,
    ) -> Manifest:
        writer = DatasetWriter(self.host.store, kind)
        writer.add(to_table(kind, rows), split=split)
        return writer.finish(rows_in=len(rows), decontaminated_against=against or [])

    async def dataset(self, name: str, manifest: Manifest) -> dataset_pb2.DatasetVersion:
        kinds = {
            "conversation": dataset_pb2.DATASET_KIND_CONVERSATION,
            "document": dataset_pb2.DATASET_KIND_DOCUMENT,
        }
        return await self.registry.CreateDatasetVersion(
            registry_pb.CreateDatasetVersionRequest(
                parent=f"{PROJECT}/datasets/{name}",
                dataset_version=dataset_pb2.DatasetVersion(digest=manifest.digest, kind=kinds[manifest.kind]),
            )
        )

    async def benchmark(
        self,
        name: str,
        rows: list[dict[str, Any]],
        *,
        metrics: tuple[str, ...] = METRICS,
        answer_format: str = "",
        kind: RecordKind = "conversation",
    ) -> evaluation_pb2.Benchmark:
        version = await self.dataset(f"{name}-rows", self.manifest(rows, split="test", kind=kind))
        return await self.registry.CreateBenchmark(
            registry_pb.CreateBenchmarkRequest(
                parent=PROJECT,
                benchmark_id=name,
                benchmark=evaluation_pb2.Benchmark(
                    dataset_version=version.name,
                    split="test",
                    metrics=metrics,
                    max_tokens=16,
                    answer_format=answer_format,
                ),
            )
        )

    async def add_adapter(self, name: str, files: bytes, dataset_versions: list[str]) -> adapter_pb2.AdapterVersion:
        parity = adapter_pb2.ParityCertificate(
            passed=True, sample_count=1, token_count=9, token_ids_equal=True, tolerance=1e-5, dtype="float32"
        )
        version = adapter_pb2.AdapterVersion(
            digest=self.host.store.put_bytes(files),
            base_model=self.model.name,
            base_model_digest=self.model.digest,
            rank=8,
            alpha=16,
            target_modules=["q_proj"],
            dataset_versions=dataset_versions,
            method="lora",
            parity=parity,
        )
        return await self.registry.CreateAdapterVersion(
            registry_pb.CreateAdapterVersionRequest(parent=f"{PROJECT}/adapters/{name}", adapter_version=version)
        )

    def order(self, evaluation_id: str, /, **changes: Any) -> pb.EvaluateModelRequest:
        """Evaluate the adapter on `words`, unless told otherwise."""
        values = {
            "parent": PROJECT,
            "evaluation_id": evaluation_id,
            "target": self.adapter.name,
            "benchmarks": [WORDS],
        }
        return pb.EvaluateModelRequest(**{**values, **changes})

    async def wait(self, operation: operations_pb2.Operation, seconds: int = 60) -> operations_pb2.Operation:
        request = operations_pb2.WaitOperationRequest(
            name=operation.name, timeout=duration_pb2.Duration(seconds=seconds)
        )
        return await operations_pb2_grpc.OperationsStub(self.channel).WaitOperation(request, timeout=seconds + 5)

    async def evaluate(self, order: pb.EvaluateModelRequest) -> evaluation_pb2.Evaluation:
        """Run an evaluation to its end."""
        ended = await self.wait(await self.evaluation.EvaluateModel(order))
        assert ended.done, "still running"
        assert not ended.HasField("error"), ended.error
        found = evaluation_pb2.Evaluation()
        assert ended.response.Unpack(found)
        return found


def document_rows() -> list[dict[str, Any]]:
    return [document("a page", title="p", uri="p.html", media_type="text/html")]


def results(evaluation: evaluation_pb2.Evaluation) -> dict[str, evaluation_pb2.MetricResult]:
    """The results of an evaluation with one benchmark, by metric."""
    return {result.metric: result for result in evaluation.results}


def policy(**bounds: float) -> evaluation_pb2.Policy:
    rule: dict[str, Any] = {"benchmark": WORDS, "metric": "token_f1", **bounds}
    return evaluation_pb2.Policy(rules=[evaluation_pb2.PolicyRule(**rule)])


async def refused(call: Any) -> tuple[grpc.StatusCode, str, list[str]]:
    """Code, reason and fields of a refused call."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    refusal = refusal_of(caught.value)
    assert refusal is not None
    fields = [path for path, _ in getattr(refusal, "violations", ())]
    return caught.value.code(), refusal.reason, fields
