"""What evaluation asks the registry: targets, benchmarks, evaluations, and what training sets were checked against."""

from __future__ import annotations

import grpc

from anneal.evaluation.domain.plan import Target, Task
from anneal.evaluation.domain.suites import SUITES
from anneal.kit import names
from anneal.kit.rpc.status import refusal_of
from anneal.v1 import adapter_pb2, dataset_pb2, evaluation_pb2, model_pb2
from anneal.v1 import registry_service_pb2 as pb
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub

TARGETS = ("model", "adapter_version")


class Registry:
    """The registry as evaluation sees it. What it refuses is passed on in its own words by the kit."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = RegistryServiceStub(channel)

    async def target(self, name: str) -> Target:
        """The model or adapter version behind a name.

        Raises:
            Invalid: the name is neither.
            AioRpcError: MODEL_MISSING or ADAPTER_VERSION_MISSING.
        """
        kind, _ = names.parse_any(name, TARGETS, "target")
        if kind == "model":
            model = await self._model(name)
            return Target(
                name=model.name,
                digest=model.digest,
                base_digest=model.digest,
                base_name=model.name,
                dataset_versions=tuple(model.dataset_versions),
            )
        version: adapter_pb2.AdapterVersion = await self._stub.GetAdapterVersion(pb.GetAdapterVersionRequest(name=name))
        return Target(
            name=version.name,
            digest=version.digest,
            base_digest=version.base_model_digest,
            base_name=version.base_model,
            dataset_versions=tuple(version.dataset_versions),
        )

    async def _model(self, name: str) -> model_pb2.Model:
        return await self._stub.GetModel(pb.GetModelRequest(name=name))

    async def task(self, benchmark: str, suite: str = "") -> Task:
        """A benchmark and how it is asked; a suite's metrics replace the benchmark's own.

        Raises:
            AioRpcError: BENCHMARK_MISSING.
        """
        found: evaluation_pb2.Benchmark = await self._stub.GetBenchmark(pb.GetBenchmarkRequest(name=benchmark))
        return Task(
            benchmark=found.name,
            dataset_digest=found.dataset_digest,
            split=found.split,
            metrics=SUITES[suite].metrics if suite else tuple(found.metrics),
            max_tokens=found.max_tokens,
            answer_format="json" if found.answer_format == "json" else "text",
        )

    async def evaluation(self, name: str) -> evaluation_pb2.Evaluation:
        """A finished evaluation.

        Raises:
            AioRpcError: EVALUATION_MISSING.
        """
        return await self._stub.GetEvaluation(pb.GetEvaluationRequest(name=name))

    async def has_evaluation(self, name: str) -> bool:
        """Whether the name is taken."""
        try:
            await self.evaluation(name)
        except grpc.aio.AioRpcError as error:
            if _reason(error) == "EVALUATION_MISSING":
                return False
            raise
        return True

    async def dataset_version(self, name: str) -> dataset_pb2.DatasetVersion:
        """A dataset version.

        Raises:
            AioRpcError: DATASET_VERSION_MISSING.
        """
        return await self._stub.GetDatasetVersion(pb.GetDatasetVersionRequest(name=name))

    async def publish(self, evaluation: evaluation_pb2.Evaluation) -> evaluation_pb2.Evaluation:
        """Make a finished evaluation visible under its own name; the same operation may say it twice.

        Raises:
            AioRpcError: EVALUATION_EXISTS, or the target is gone.
        """
        content = evaluation_pb2.Evaluation()
        content.CopyFrom(evaluation)
        content.ClearField("name")
        request = pb.CreateEvaluationRequest(
            parent=names.project_of(evaluation.name),
            evaluation_id=names.last_id(evaluation.name),
            evaluation=content,
        )
        try:
            return await self._stub.CreateEvaluation(request)
        except grpc.aio.AioRpcError as error:
            if _reason(error) != "EVALUATION_EXISTS":
                raise
            published = await self.evaluation(evaluation.name)
            if published.operation != evaluation.operation:
                raise
            return published


def _reason(error: grpc.aio.AioRpcError) -> str:
    refusal = refusal_of(error)
    return "" if refusal is None else refusal.reason
