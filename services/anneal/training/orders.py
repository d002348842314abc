"""What is decided about an order before any work: is it possible, and does all that it names exist?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.longrunning import operations_pb2
from google.protobuf.empty_pb2 import Empty

from anneal.kit import names
from anneal.kit.errors import Invalid
from anneal.kit.jobs.engine import Jobs
from anneal.kit.options import EngineOptions
from anneal.kit.store import Store
from anneal.training import codec
from anneal.training.adapters.registry import Registry
from anneal.training.adapters.speeds import Speeds
from anneal.training.errors import ChatTemplateMissing, ModelTaken
from anneal.training.importing import check_source
from anneal.training.settings import TrainingOptions
from anneal.v1 import dataset_pb2
from anneal.v1 import training_service_pb2 as pb

_NEEDED = {"instruction": "conversations", "text": "documents"}
if TYPE_CHECKING:
    from anneal.training.planning import Wanted

_RECORDS = {"instruction": dataset_pb2.DATASET_KIND_CONVERSATION, "text": dataset_pb2.DATASET_KIND_DOCUMENT}


class Orders:
    """Takes orders for plans, trainings and imports."""

    def __init__(
        self,
        *,
        jobs: Jobs,
        store: Store,
        registry: Registry,
        speeds: Speeds,
        data: Path,
        options: TrainingOptions,
        engine: EngineOptions,
    ) -> None:
        """Keep what orders are checked against and handed to; `data` is a folder for shards that plans read."""
        self._engine = engine
        self._jobs, self._store, self._registry, self._speeds = jobs, store, registry, speeds
        self._data, self._options = data, options
        self._planning = asyncio.Lock()

    async def plan(self, request: pb.PlanTrainingRequest) -> pb.TrainingPlan:
        """Work out a plan, one at a time: it needs all processors.

        Raises:
            Refusal: the order is impossible, or a row cannot be trained on.
            AioRpcError: the registry misses something the order names.
        """
        spec, base, versions = await self._resolve(request)
        async with self._planning:
            return await asyncio.to_thread(self._plan, request, spec, base, versions)

    def _plan(self, *found: Any) -> pb.TrainingPlan:
        from anneal.training.planning import plan

        return plan(self._store, self._speeds, self._data, self._wanted(*found))

    def _check(self, *found: Any) -> None:
        from anneal.training.planning import check

        check(self._store, self._data, self._wanted(*found))

    def _wanted(
        self,
        request: pb.PlanTrainingRequest | pb.CreateTrainingJobRequest,
        spec: dict[str, Any],
        base_digest: str,
        versions: list[dataset_pb2.DatasetVersion],
    ) -> Wanted:
        # torch and transformers come with the first order, not with the server's start
        from anneal.training.planning import Wanted

        return Wanted(
            spec=spec,
            base_digest=base_digest,
            dataset_digests=[version.digest for version in versions],
            workers=request.spec.workers or 1,
            max_rank=self._engine.rank_of(request.base_model),
            device=self._engine.device,
        )

    async def train(self, request: pb.CreateTrainingJobRequest) -> operations_pb2.Operation:
        """Accept a training.

        Raises:
            Refusal: the order is impossible, or its output's name is taken.
            AioRpcError: the registry misses something the order names.
        """
        codec.check_sources(request)
        names.check_id(request.output_id, "output_id")
        if not await self._jobs.knows(request.parent, request.request_id):
            spec, base, versions = await self._resolve(request)
            if not any(v.split_row_counts.get("train") for v in versions):
                raise Invalid.field("dataset_versions", "none of them has rows in the split `train`")
            if spec["method"] == "full" and await self._registry.find_model(_model_name(request)) is not None:
                raise ModelTaken(f"{_model_name(request)} exists; choose another output_id", name=_model_name(request))
            await asyncio.to_thread(self._check, request, spec, base, versions)
            self._jobs.check("train", request)
            if request.validate_only:
                return _validated()
        return await self._jobs.submit("train", request, project=request.parent, request_id=request.request_id)

    async def import_model(self, request: pb.ImportModelRequest) -> operations_pb2.Operation:
        """Accept an import.

        Raises:
            Refusal: the request is impossible, or its source is not one to read from.
        """
        names.parse(request.parent, "project", "parent")
        names.check_id(request.model_id, "model_id")
        if not await self._jobs.knows(request.parent, request.request_id):
            await asyncio.to_thread(check_source, request, self._options, self._store)
            await asyncio.to_thread(self._check_chat, request)
        self._jobs.check("import_model", request)
        if request.validate_only:
            return _validated()
        return await self._jobs.submit("import_model", request, project=request.parent, request_id=request.request_id)

    def _check_chat(self, request: pb.ImportModelRequest) -> None:
        if request.HasField("chat"):
            # transformers, which compiles templates, comes with the first of them
            from anneal.training.giving import decode_chat

            decode_chat(request.chat)

    async def _resolve(
        self, request: pb.PlanTrainingRequest | pb.CreateTrainingJobRequest
    ) -> tuple[dict[str, Any], str, list[dataset_pb2.DatasetVersion]]:
        """The spec, the base model's digest, and the dataset versions."""
        codec.check_sources(request)
        spec = codec.decode_spec(request.spec, max_workers=self._options.max_workers)
        base = await self._registry.model(request.base_model)
        if base.context_length and spec["context_tokens"] > base.context_length:
            raise Invalid.field("spec.max_length", f"the base model's context holds {base.context_length} tokens")
        if spec["objective"] != "text" and base.HasField("has_chat_template") and not base.has_chat_template:
            raise ChatTemplateMissing(
                f"{base.name} has no chat template, so it can be trained on text and not on conversations. Import it "
                "again under another id with one: chat.template_name (--template NAME) or chat.template_text "
                "(--template-file FILE)",
                model=base.name,
            )
        versions = [await self._registry.dataset_version(name) for name in request.dataset_versions]
        for index, version in enumerate(versions):
            if version.kind != _RECORDS[spec["objective"]]:
                kind = dataset_pb2.DatasetKind.Name(version.kind).removeprefix("DATASET_KIND_").lower()
                raise Invalid.field(
                    f"dataset_versions[{index}]",
                    f"{version.name} holds {kind} rows; {spec['objective']} learns from {_NEEDED[spec['objective']]}",
                )
        return spec, base.digest, versions


def _model_name(request: pb.CreateTrainingJobRequest) -> str:
    return f"{request.parent}/models/{request.output_id}"


def _validated() -> operations_pb2.Operation:
    """The answer to an order that was only checked: nothing was started, so the operation has no name."""
    operation = operations_pb2.Operation(done=True)
    operation.response.Pack(Empty())
    return operation
