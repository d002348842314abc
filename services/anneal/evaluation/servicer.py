"""The gRPC face of evaluation. Nothing is decided and nothing is caught here."""

from __future__ import annotations

import asyncio
from typing import Any

from google.longrunning import operations_pb2

from anneal.evaluation import codec
from anneal.evaluation.adapters.registry import Registry
from anneal.evaluation.comparing import compare
from anneal.evaluation.planning import check_comparison, check_name_is_free, check_order, plan
from anneal.kit.jobs.engine import Jobs
from anneal.kit.store import Store
from anneal.v1 import evaluation_service_pb2 as pb
from anneal.v1.evaluation_service_pb2_grpc import EvaluationServiceServicer


class EvaluationServicer(EvaluationServiceServicer):
    """Serves `anneal.v1.EvaluationService`."""

    def __init__(self, jobs: Jobs, registry: Registry, store: Store) -> None:
        self._jobs, self._registry, self._store = jobs, registry, store

    async def EvaluateModel(self, request: pb.EvaluateModelRequest, context: Any) -> operations_pb2.Operation:
        """Accept one order and answer at once; the asking goes on in its own process."""
        check_order(request)
        if not await self._jobs.knows(request.parent, request.request_id):
            the_plan = await plan(self._registry, request)
            await check_name_is_free(self._registry, the_plan.name)
            self._jobs.check("evaluate", request)
            if request.validate_only:
                return codec.encode_preview(the_plan.name, the_plan.target)
        return await self._jobs.submit("evaluate", request, project=request.parent, request_id=request.request_id)

    async def CompareModels(self, request: pb.CompareModelsRequest, context: Any) -> pb.CompareModelsResponse:
        """Read both evaluations' rows from the store and pair them."""
        check_comparison(request)
        ours = await self._registry.evaluation(request.evaluation)
        theirs = await self._registry.evaluation(request.baseline)
        return pb.CompareModelsResponse(results=await asyncio.to_thread(compare, self._store, ours, theirs))
