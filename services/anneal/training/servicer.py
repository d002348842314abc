"""The gRPC face of training. Nothing is decided and nothing is caught here."""

from __future__ import annotations

from typing import Any

from google.longrunning import operations_pb2

from anneal.training.orders import Orders
from anneal.v1 import training_service_pb2 as pb
from anneal.v1.training_service_pb2_grpc import TrainingServiceServicer


class TrainingServicer(TrainingServiceServicer):
    """Serves `anneal.v1.TrainingService`."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    async def PlanTraining(self, request: pb.PlanTrainingRequest, context: Any) -> pb.TrainingPlan:
        """Tell what a training would cost."""
        return await self._orders.plan(request)

    async def CreateTrainingJob(self, request: pb.CreateTrainingJobRequest, context: Any) -> operations_pb2.Operation:
        """Accept an order and answer at once; the training goes on in its own process."""
        return await self._orders.train(request)

    async def ImportModel(self, request: pb.ImportModelRequest, context: Any) -> operations_pb2.Operation:
        """Accept a base model; its files are checked and stored in a process of its own."""
        return await self._orders.import_model(request)
