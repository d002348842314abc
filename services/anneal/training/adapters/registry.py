"""What training asks the registry, and how it publishes."""

from __future__ import annotations

import uuid

import grpc

from anneal.kit import names
from anneal.kit.rpc.status import refusal_of
from anneal.training.errors import ModelTaken
from anneal.v1 import adapter_pb2, dataset_pb2, model_pb2
from anneal.v1 import registry_service_pb2 as pb
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub


class Registry:
    """The registry as training sees it. What it refuses is passed on in its own words by the kit."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = RegistryServiceStub(channel)

    async def model(self, name: str) -> model_pb2.Model:
        """A base model.

        Raises:
            AioRpcError: MODEL_MISSING.
        """
        return await self._stub.GetModel(pb.GetModelRequest(name=name))

    async def find_model(self, name: str) -> model_pb2.Model | None:
        """A model; None when there is none of that name."""
        try:
            return await self.model(name)
        except grpc.aio.AioRpcError as error:
            if _reason(error) == "MODEL_MISSING":
                return None
            raise

    async def dataset_version(self, name: str) -> dataset_pb2.DatasetVersion:
        """A dataset version.

        Raises:
            AioRpcError: DATASET_VERSION_MISSING.
        """
        return await self._stub.GetDatasetVersion(pb.GetDatasetVersionRequest(name=name))

    async def publish_model(self, model: model_pb2.Model) -> model_pb2.Model:
        """Make a model visible; one of the same name with the same files is returned as it is.

        Raises:
            ModelTaken: the name has other files.
        """
        request = pb.CreateModelRequest(
            parent=names.parent_of(model.name), model_id=names.last_id(model.name), model=model
        )
        try:
            return await self._stub.CreateModel(request)
        except grpc.aio.AioRpcError as error:
            if _reason(error) != "MODEL_EXISTS":
                raise
        known = await self.model(model.name)
        if known.digest != model.digest:
            raise ModelTaken(
                f"{model.name} exists with other files ({known.digest}, not {model.digest}); choose another id",
                name=model.name,
                digest=known.digest,
            )
        return known

    async def publish_adapter(self, version: adapter_pb2.AdapterVersion) -> adapter_pb2.AdapterVersion:
        """Make an adapter version visible; the same operation may do it twice.

        An attempt whose publication succeeded and whose end was lost is followed by another one, which compares the
        adapter with serving once more: the same version, with a certificate that differs in its last digits.
        """
        request = pb.CreateAdapterVersionRequest(
            parent=version.name.partition("/versions/")[0],
            adapter_version=version,
            request_id=str(uuid.uuid5(uuid.NAMESPACE_URL, version.operation)),
        )
        try:
            return await self._stub.CreateAdapterVersion(request)
        except grpc.aio.AioRpcError as error:
            if _reason(error) != "REQUEST_ID_REUSED":
                raise
            published = await self._stub.GetAdapterVersion(pb.GetAdapterVersionRequest(name=version.name))
            if (published.digest, published.operation) != (version.digest, version.operation):
                raise
            return published


def _reason(error: grpc.aio.AioRpcError) -> str:
    refusal = refusal_of(error)
    return "" if refusal is None else refusal.reason
