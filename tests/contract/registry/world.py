"""A registry behind a real channel, and short words for filling it."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import pyarrow as pa
import pytest

from anneal.kit.datasets import DatasetWriter
from anneal.kit.errors import Refusal
from anneal.kit.manifests import Manifest
from anneal.kit.policies import policy_digest
from anneal.kit.records import (
    conversation,
    document,
    preference,
    quarantine_table,
    quarantined,
    removed_schema,
    to_table,
)
from anneal.kit.rpc.server import Host
from anneal.kit.rpc.status import refusal_of
from anneal.kit.store import Store
from anneal.v1 import adapter_pb2, dataset_pb2, deployment_pb2, evaluation_pb2, model_pb2
from anneal.v1 import registry_service_pb2 as pb
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub

if TYPE_CHECKING:
    from anneal.v1.registry_service_pb2_grpc import RegistryServiceAsyncStub

PROJECT = "projects/p"
PREFERENCE = dataset_pb2.DATASET_KIND_PREFERENCE
CONVERSATION = dataset_pb2.DATASET_KIND_CONVERSATION
DOCUMENT = dataset_pb2.DATASET_KIND_DOCUMENT
GO, NO_GO = evaluation_pb2.VERDICT_GO, evaluation_pb2.VERDICT_NO_GO
ABSENT = "sha256:" + "0" * 64
RULE = evaluation_pb2.PolicyRule(benchmark=f"{PROJECT}/benchmarks/summaries", metric="exact_match", min_gain=0.0)
POLICY = evaluation_pb2.Policy(rules=[RULE], min_scored_rows=30)


def new_id() -> str:
    """A request id."""
    return str(uuid.uuid4())


def row(text: str) -> dict[str, Any]:
    """One conversation."""
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": text.upper()}]
    return conversation(turns, source=f"library/{text}.html", scores={"quality": 0.5})


async def refused(call: Awaitable[Any]) -> Refusal:
    """The refusal an RPC ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    refusal = refusal_of(caught.value)
    assert refusal is not None, caught.value
    return refusal


async def reason(call: Awaitable[Any]) -> tuple[str, str]:
    """Kind and reason of the refusal an RPC ends with."""
    refusal = await refused(call)
    return refusal.kind.name, refusal.reason


async def violation(call: Awaitable[Any]) -> str:
    """The first field an RPC is refused for."""
    refusal = await refused(call)
    assert refusal.kind.name == "INVALID", refusal
    violations: Sequence[tuple[str, str]] = refusal.violations  # type: ignore[attr-defined]
    return violations[0][0]


class World(NamedTuple):
    """A running registry with its store and a client."""

    host: Host
    stub: RegistryServiceAsyncStub

    @classmethod
    def on(cls, host: Host) -> World:
        """The registry on a host."""
        stub: Any = RegistryServiceStub(host.runtime.channel("registry"))
        return cls(host, stub)

    @property
    def store(self) -> Store:
        """Where the bytes are."""
        return self.host.store

    def manifest(
        self,
        texts: Sequence[str] = ("one", "two"),
        *,
        test: Sequence[str] = (),
        removed: Sequence[str] = (),
        broken: int = 0,
        parents: Sequence[str] = (),
        shard_rows: int = 50_000,
    ) -> Manifest:
        """Write conversations into the store."""
        writer = DatasetWriter(self.store, "conversation", shard_rows=shard_rows)
        writer.add(to_table("conversation", [row(text) for text in texts]))
        writer.add(to_table("conversation", [row(text) for text in test]), split="test")
        gone = [
            {
                **row(text),
                "removed_step": "exact_duplicates",
                "removed_reason": "exact_duplicate",
                "removed_numbers": "{}",
                "removed_duplicate_of": row(text)["id"],
            }
            for text in removed
        ]
        writer.add(pa.Table.from_pylist(gone, schema=removed_schema("conversation")), part="removed")
        bad = [
            quarantined("in.jsonl", byte_offset=i, cause="no JSON", reason="not_json", raw="{") for i in range(broken)
        ]
        writer.add(quarantine_table(bad), part="quarantined")
        total = len(texts) + len(test) + len(removed) + broken
        return writer.finish(rows_in=total, parents=parents, decontaminated_against=[ABSENT] if removed else [])

    def documents(self, *texts: str) -> Manifest:
        """Write documents into the store."""
        writer = DatasetWriter(self.store, "document")
        writer.add(to_table("document", [document(text, uri=f"library/{text}.html") for text in texts]))
        return writer.finish(rows_in=len(texts))

    def preferences(self, *prompts: str) -> Manifest:
        """Write preferences into the store, all in the split test."""
        writer = DatasetWriter(self.store, "preference")
        turn = {"role": "assistant", "content": "No idea."}
        made = [
            preference([{"role": "user", "content": text}], chosen=None, rejected=[turn], source="s")
            for text in prompts
        ]
        writer.add(to_table("preference", made), split="test")
        return writer.finish(rows_in=len(prompts))

    async def dataset_version(
        self, manifest: Manifest | None = None, dataset: str = "qa", **more: Any
    ) -> dataset_pb2.DatasetVersion:
        """Publish a dataset version."""
        made = manifest or self.manifest()
        kind = {"document": DOCUMENT, "conversation": CONVERSATION, "preference": PREFERENCE}[made.kind]
        given = dataset_pb2.DatasetVersion(digest=made.digest, kind=kind, **more)
        request = pb.CreateDatasetVersionRequest(parent=f"{PROJECT}/datasets/{dataset}", dataset_version=given)
        return await self.stub.CreateDatasetVersion(request)

    async def model(self, model_id: str = "tiny", **more: Any) -> model_pb2.Model:
        """Register a base model."""
        digest = self.store.put_bytes(f"model {model_id}".encode())
        given = model_pb2.Model(name="-", digest=digest, architecture="LlamaForCausalLM", **more)
        return await self.stub.CreateModel(pb.CreateModelRequest(parent=PROJECT, model_id=model_id, model=given))

    def new_adapter(
        self, model: model_pb2.Model, data: dataset_pb2.DatasetVersion, content: str = "weights", **changes: Any
    ) -> adapter_pb2.AdapterVersion:
        """An adapter version that can be published."""
        parity = adapter_pb2.ParityCertificate(
            passed=True,
            sample_count=4,
            token_count=90,
            token_ids_equal=True,
            max_logprob_difference=1.4e-6,
            tolerance=1e-5,
            dtype="float32",
        )
        values: dict[str, Any] = {
            "digest": self.store.put_bytes(content.encode()),
            "base_model": model.name,
            "base_model_digest": model.digest,
            "rank": 8,
            "alpha": 16.0,
            "target_modules": ["q_proj", "v_proj"],
            "dataset_versions": [data.name],
            "method": "lora",
            "parity": parity,
        }
        return adapter_pb2.AdapterVersion(**{**values, **changes})

    async def publish(self, given: adapter_pb2.AdapterVersion, adapter: str = "bot") -> adapter_pb2.AdapterVersion:
        """Publish an adapter version."""
        request = pb.CreateAdapterVersionRequest(parent=f"{PROJECT}/adapters/{adapter}", adapter_version=given)
        return await self.stub.CreateAdapterVersion(request)

    async def benchmark(
        self, data: dataset_pb2.DatasetVersion, benchmark_id: str = "summaries"
    ) -> evaluation_pb2.Benchmark:
        """Register the test split as a benchmark."""
        given = evaluation_pb2.Benchmark(
            dataset_version=data.name, split="test", metrics=["exact_match"], max_tokens=32
        )
        request = pb.CreateBenchmarkRequest(parent=PROJECT, benchmark_id=benchmark_id, benchmark=given)
        return await self.stub.CreateBenchmark(request)

    def new_evaluation(
        self, judged: adapter_pb2.AdapterVersion, /, verdict: evaluation_pb2.Verdict.ValueType = GO, **changes: Any
    ) -> evaluation_pb2.Evaluation:
        """An evaluation of an adapter version under `POLICY`."""
        values: dict[str, Any] = {
            "target": judged.name,
            "target_digest": judged.digest,
            "base_model_digest": judged.base_model_digest,
            "policy": POLICY,
            "policy_digest": policy_digest(POLICY),
            "verdict": verdict,
            "results": [evaluation_pb2.MetricResult(benchmark=RULE.benchmark, metric="exact_match")],
            "rule_results": [evaluation_pb2.RuleResult(rule=RULE, verdict=verdict)],
        }
        return evaluation_pb2.Evaluation(**{**values, **changes})

    async def evaluate(
        self, judged: adapter_pb2.AdapterVersion, /, evaluation_id: str = "e1", **changes: Any
    ) -> evaluation_pb2.Evaluation:
        """Keep an evaluation of an adapter version; a GO unless changed."""
        given = self.new_evaluation(judged, **changes)
        request = pb.CreateEvaluationRequest(parent=PROJECT, evaluation_id=evaluation_id, evaluation=given)
        return await self.stub.CreateEvaluation(request)

    async def deploy(
        self, version: adapter_pb2.AdapterVersion, deployment_id: str = "support-bot", **more: Any
    ) -> deployment_pb2.Deployment:
        """Deploy an adapter version under `POLICY`."""
        given = deployment_pb2.Deployment(**{"adapter_version": version.name, "policy": POLICY, **more})
        request = pb.CreateDeploymentRequest(parent=PROJECT, deployment_id=deployment_id, deployment=given)
        return await self.stub.CreateDeployment(request)

    async def settled(self) -> Settled:
        """One model, one data set with a benchmark, and one adapter version without an evaluation."""
        data = await self.dataset_version(self.manifest(["one", "two"], test=["three"]))
        model = await self.model()
        await self.benchmark(data)
        adapter = await self.publish(self.new_adapter(model, data))
        return Settled(data, model, adapter)


class Settled(NamedTuple):
    """What most tests begin with."""

    data: dataset_pb2.DatasetVersion
    model: model_pb2.Model
    adapter: adapter_pb2.AdapterVersion
