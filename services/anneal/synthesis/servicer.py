"""The gRPC face of synthesis."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from google.longrunning import operations_pb2

from anneal.kit.jobs.engine import Jobs
from anneal.kit.store import Store
from anneal.synthesis import codec
from anneal.synthesis.preview import preview
from anneal.v1 import dataset_pb2
from anneal.v1 import synthesis_service_pb2 as pb
from anneal.v1.registry_service_pb2 import GetDatasetVersionRequest
from anneal.v1.synthesis_service_pb2_grpc import SynthesisServiceServicer


class SynthesisServicer(SynthesisServiceServicer):
    """Serves `anneal.v1.SynthesisService`. Nothing is decided and nothing is caught here."""

    def __init__(self, jobs: Jobs, store: Store, registry: Any, teacher_hosts: Sequence[str]) -> None:
        self._jobs, self._store, self._registry = jobs, store, registry
        self._teacher_hosts = teacher_hosts

    async def SynthesizeDataset(self, request: pb.SynthesizeDatasetRequest, context: Any) -> operations_pb2.Operation:
        """Accept an order and answer at once; rows are made in a process of its own."""
        recipe = codec.decode_order(request, self._teacher_hosts)
        await self._resolve_versions(request.source, recipe.against)
        self._jobs.check("synthesize", request)
        if request.validate_only:
            return codec.encode_validated()
        return await self._jobs.submit("synthesize", request, project=request.parent, request_id=request.request_id)

    async def PreviewSynthesis(self, request: pb.PreviewSynthesisRequest, context: Any) -> pb.PreviewSynthesisResponse:
        """Show a handful of rows."""
        recipe, max_rows = codec.decode_preview(request)
        versions = await self._resolve_versions(request.source, recipe.against)
        return await asyncio.to_thread(preview, self._store, [version.digest for version in versions], recipe, max_rows)

    async def _resolve_versions(self, source: str, against: Sequence[str]) -> list[dataset_pb2.DatasetVersion]:
        fields = {"source": source, **{f"recipe.novelty.against[{index}]": name for index, name in enumerate(against)}}
        found = []
        for field, name in fields.items():
            version = await self._registry.GetDatasetVersion(GetDatasetVersionRequest(name=name))
            codec.check_kind(version, field)
            found.append(version)
        return found
