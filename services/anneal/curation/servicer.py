"""The gRPC face of curation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from google.longrunning import operations_pb2

from anneal.curation import codec, contamination, exploration
from anneal.curation.domain.steps.decontaminate import ALL
from anneal.curation.planning import HeldOut, Inputs, Version, check_benchmarks, check_inputs
from anneal.curation.settings import CurationOptions
from anneal.kit import names
from anneal.kit.jobs.engine import Jobs
from anneal.kit.store import Store
from anneal.v1 import contamination_pb2, dataset_pb2
from anneal.v1 import curation_service_pb2 as pb
from anneal.v1.curation_service_pb2_grpc import CurationServiceServicer
from anneal.v1.registry_service_pb2 import GetBenchmarkRequest, GetDatasetVersionRequest, ListBenchmarksRequest


class CurationServicer(CurationServiceServicer):
    """Serves `anneal.v1.CurationService`. Nothing is decided and nothing is caught here."""

    def __init__(self, jobs: Jobs, store: Store, registry: Any, options: CurationOptions) -> None:
        self._jobs, self._store, self._registry, self._options = jobs, store, registry, options

    async def CurateDataset(self, request: pb.CurateDatasetRequest, context: Any) -> operations_pb2.Operation:
        """Accept an order and answer at once; rows are judged in a process of its own."""
        steps = codec.decode_order(request, self._options)
        sources = [await self._version(name) for name in request.sources]
        benchmarks = await self._benchmarks(request.parent, codec.benchmarks_of(steps))
        inputs = Inputs(sources=tuple(sources), benchmarks=tuple(benchmarks))
        await asyncio.to_thread(check_inputs, self._store, steps, inputs)
        self._jobs.check("curate", request)
        if request.validate_only:
            return codec.encode_validated(dataset_pb2.DatasetVersion())
        return await self._jobs.submit("curate", request, project=request.parent, request_id=request.request_id)

    async def ExploreDataset(self, request: pb.ExploreDatasetRequest, context: Any) -> operations_pb2.Operation:
        """Accept an order and answer at once; rows are looked at in a process of its own."""
        exploration.decode_order(request, self._options)
        await self._version(request.dataset_version)
        self._jobs.check("explore", request)
        if request.validate_only:
            return codec.encode_validated(pb.DatasetOverview())
        project = names.project_of(request.dataset_version)
        return await self._jobs.submit("explore", request, project=project, request_id=request.request_id)

    async def GetContaminationReport(
        self, request: contamination_pb2.GetContaminationReportRequest, context: Any
    ) -> contamination_pb2.ContaminationReport:
        """Tell what decontamination took out of a version."""
        codec.refuse(codec.wrong_name(request.dataset_version, "dataset_version", "dataset_version"))
        version = await self._version(request.dataset_version)
        benchmarks = await self._benchmarks(names.project_of(version.name), [ALL])
        by_name = {one.name: one for one in benchmarks}
        return await asyncio.to_thread(contamination.report_of, self._store, version.name, version.digest, by_name)

    async def CheckContamination(
        self, request: contamination_pb2.CheckContaminationRequest, context: Any
    ) -> operations_pb2.Operation:
        """Accept an order and answer at once; rows are compared in a process of its own."""
        step = contamination.decode_order(request, self._options)
        for name in request.dataset_versions:
            await self._version(name)
        benchmarks = await self._benchmarks(request.parent, step.benchmarks)
        await asyncio.to_thread(check_benchmarks, self._store, step, benchmarks)
        self._jobs.check("check_contamination", request)
        if request.validate_only:
            return codec.encode_validated(contamination_pb2.CheckContaminationResponse())
        return await self._jobs.submit(
            "check_contamination", request, project=request.parent, request_id=request.request_id
        )

    async def _version(self, name: str) -> Version:
        found = await self._registry.GetDatasetVersion(GetDatasetVersionRequest(name=name))
        return Version(name=found.name, digest=found.digest)

    async def _benchmarks(self, project: str, names: Sequence[str]) -> list[HeldOut]:
        """The benchmarks of these names; `*` stands for all of the project."""
        found = []
        for name in names:
            if name != ALL:
                found.append(await self._registry.GetBenchmark(GetBenchmarkRequest(name=name)))
                continue
            token = ""
            while True:
                request = ListBenchmarksRequest(parent=project, page_size=1000, page_token=token)
                page = await self._registry.ListBenchmarks(request)
                found.extend(page.benchmarks)
                token = page.next_page_token
                if not token:
                    break
        return [HeldOut(name=one.name, digest=one.dataset_digest, split=one.split) for one in found]
