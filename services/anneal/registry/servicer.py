"""The gRPC face of the registry. Nothing is decided and nothing is caught here."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from anneal.registry.domain.resources import Kind
from anneal.registry.usecases import datasets, deployments, evaluations, models, rows
from anneal.registry.usecases.house import House, get, list_page
from anneal.v1 import registry_service_pb2 as pb
from anneal.v1.adapter_pb2 import Adapter, AdapterVersion
from anneal.v1.dataset_pb2 import Dataset, DatasetVersion
from anneal.v1.deployment_pb2 import Deployment
from anneal.v1.evaluation_pb2 import Benchmark, Evaluation
from anneal.v1.model_pb2 import Model
from anneal.v1.registry_service_pb2_grpc import RegistryServiceServicer

Context = grpc.aio.ServicerContext[Any, Any]


class RegistryServicer(RegistryServiceServicer):
    """Serves `anneal.v1.RegistryService`; what each RPC promises and refuses stands in its proto."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def CreateDataset(self, request: pb.CreateDatasetRequest, context: Context) -> Dataset:
        """Create one dataset."""
        return await datasets.create_dataset(self._house, request)

    async def GetDataset(self, request: pb.GetDatasetRequest, context: Context) -> Dataset:
        """Return one dataset."""
        answer: Dataset = await get(self._house, Kind.DATASET, request.name)
        return answer

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Context) -> pb.ListDatasetsResponse:
        """Return a page of datasets."""
        found, token = await list_page(self._house, Kind.DATASET, request)
        return pb.ListDatasetsResponse(datasets=found, next_page_token=token)

    async def CreateDatasetVersion(self, request: pb.CreateDatasetVersionRequest, context: Context) -> DatasetVersion:
        """Create one dataset version."""
        return await datasets.create_dataset_version(self._house, request)

    async def GetDatasetVersion(self, request: pb.GetDatasetVersionRequest, context: Context) -> DatasetVersion:
        """Return one dataset version."""
        answer: DatasetVersion = await get(self._house, Kind.DATASET_VERSION, request.name)
        return answer

    async def ListDatasetVersions(
        self, request: pb.ListDatasetVersionsRequest, context: Context
    ) -> pb.ListDatasetVersionsResponse:
        """Return a page of dataset versions."""
        found, token = await list_page(self._house, Kind.DATASET_VERSION, request)
        return pb.ListDatasetVersionsResponse(dataset_versions=found, next_page_token=token)

    async def CreateModel(self, request: pb.CreateModelRequest, context: Context) -> Model:
        """Create one model."""
        return await models.create_model(self._house, request)

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> Model:
        """Return one model."""
        answer: Model = await get(self._house, Kind.MODEL, request.name)
        return answer

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """Return a page of models."""
        found, token = await list_page(self._house, Kind.MODEL, request)
        return pb.ListModelsResponse(models=found, next_page_token=token)

    async def CreateAdapter(self, request: pb.CreateAdapterRequest, context: Context) -> Adapter:
        """Create one adapter."""
        return await models.create_adapter(self._house, request)

    async def GetAdapter(self, request: pb.GetAdapterRequest, context: Context) -> Adapter:
        """Return one adapter."""
        answer: Adapter = await get(self._house, Kind.ADAPTER, request.name)
        return answer

    async def ListAdapters(self, request: pb.ListAdaptersRequest, context: Context) -> pb.ListAdaptersResponse:
        """Return a page of adapters."""
        found, token = await list_page(self._house, Kind.ADAPTER, request)
        return pb.ListAdaptersResponse(adapters=found, next_page_token=token)

    async def CreateAdapterVersion(self, request: pb.CreateAdapterVersionRequest, context: Context) -> AdapterVersion:
        """Create one adapter version."""
        return await models.create_adapter_version(self._house, request)

    async def GetAdapterVersion(self, request: pb.GetAdapterVersionRequest, context: Context) -> AdapterVersion:
        """Return one adapter version."""
        answer: AdapterVersion = await get(self._house, Kind.ADAPTER_VERSION, request.name)
        return answer

    async def ListAdapterVersions(
        self, request: pb.ListAdapterVersionsRequest, context: Context
    ) -> pb.ListAdapterVersionsResponse:
        """Return a page of adapter versions."""
        found, token = await list_page(self._house, Kind.ADAPTER_VERSION, request)
        return pb.ListAdapterVersionsResponse(adapter_versions=found, next_page_token=token)

    async def CreateBenchmark(self, request: pb.CreateBenchmarkRequest, context: Context) -> Benchmark:
        """Create one benchmark."""
        return await evaluations.create_benchmark(self._house, request)

    async def GetBenchmark(self, request: pb.GetBenchmarkRequest, context: Context) -> Benchmark:
        """Return one benchmark."""
        answer: Benchmark = await get(self._house, Kind.BENCHMARK, request.name)
        return answer

    async def ListBenchmarks(self, request: pb.ListBenchmarksRequest, context: Context) -> pb.ListBenchmarksResponse:
        """Return a page of benchmarks."""
        found, token = await list_page(self._house, Kind.BENCHMARK, request)
        return pb.ListBenchmarksResponse(benchmarks=found, next_page_token=token)

    async def CreateEvaluation(self, request: pb.CreateEvaluationRequest, context: Context) -> Evaluation:
        """Create one evaluation."""
        return await evaluations.create_evaluation(self._house, request)

    async def GetEvaluation(self, request: pb.GetEvaluationRequest, context: Context) -> Evaluation:
        """Return one evaluation."""
        answer: Evaluation = await get(self._house, Kind.EVALUATION, request.name)
        return answer

    async def ListEvaluations(self, request: pb.ListEvaluationsRequest, context: Context) -> pb.ListEvaluationsResponse:
        """Return a page of evaluations."""
        found, token = await list_page(self._house, Kind.EVALUATION, request)
        return pb.ListEvaluationsResponse(evaluations=found, next_page_token=token)

    async def CreateDeployment(self, request: pb.CreateDeploymentRequest, context: Context) -> Deployment:
        """Create one deployment."""
        return await deployments.create_deployment(self._house, request)

    async def GetDeployment(self, request: pb.GetDeploymentRequest, context: Context) -> Deployment:
        """Return one deployment."""
        answer: Deployment = await get(self._house, Kind.DEPLOYMENT, request.name)
        return answer

    async def ListDeployments(self, request: pb.ListDeploymentsRequest, context: Context) -> pb.ListDeploymentsResponse:
        """Return a page of deployments."""
        found, token = await list_page(self._house, Kind.DEPLOYMENT, request)
        return pb.ListDeploymentsResponse(deployments=found, next_page_token=token)

    async def UpdateDeployment(self, request: pb.UpdateDeploymentRequest, context: Context) -> Deployment:
        """Switch a deployment."""
        return await deployments.update_deployment(self._house, request)

    async def DeleteDeployment(self, request: pb.DeleteDeploymentRequest, context: Context) -> Empty:
        """Delete a deployment."""
        await deployments.delete_deployment(self._house, request)
        return Empty()

    async def ResolveDeployment(
        self, request: pb.ResolveDeploymentRequest, context: Context
    ) -> pb.ResolveDeploymentResponse:
        """Find who answers."""
        return await deployments.resolve_deployment(self._house, request)

    async def ReadRows(self, request: pb.ReadRowsRequest, context: Context) -> pb.ReadRowsResponse:
        """Return a page of rows."""
        return await rows.read_rows(self._house, request)

    async def LookupRow(self, request: pb.LookupRowRequest, context: Context) -> pb.LookupRowResponse:
        """Find a row."""
        return await rows.lookup_row(self._house, request)

    async def GetLineage(self, request: pb.GetLineageRequest, context: Context) -> pb.Lineage:
        """Follow lineage."""
        return await rows.get_lineage(self._house, request)
