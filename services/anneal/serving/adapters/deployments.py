"""Asks the registry who stands behind a deployment, for every request: a switch takes effect with the next one."""

from __future__ import annotations

import grpc

from anneal.kit.errors import Invalid, Missing
from anneal.kit.rpc.status import refusal_of
from anneal.serving.domain.errors import DeploymentMissing
from anneal.serving.inference import Answerer
from anneal.v1 import registry_service_pb2 as pb
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub

_DEADLINE_S = 10.0


class RegistryDeployments:
    """Implements `Deployments` over the registry's RPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._registry = RegistryServiceStub(channel)

    async def resolve(self, name: str, split_key: str) -> Answerer:
        """See `Deployments.resolve`."""
        request = pb.ResolveDeploymentRequest(name=name, split_key=split_key)
        try:
            found = await self._registry.ResolveDeployment(request, timeout=_DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            if isinstance(refusal, Missing):
                raise DeploymentMissing(f"there is no deployment {name!r}", deployment=name) from error
            if isinstance(refusal, Invalid):
                raise Invalid.field("target.deployment", str(refusal)) from error
            raise
        return Answerer(found.base_model_digest, found.adapter_digest, name, found.canary)

    async def base_digest(self, name: str) -> str:
        """Digest of a base model by its resource name.

        Raises:
            AioRpcError: the registry does not answer, or has no such model.
        """
        model = await self._registry.GetModel(pb.GetModelRequest(name=name), timeout=_DEADLINE_S)
        return model.digest
