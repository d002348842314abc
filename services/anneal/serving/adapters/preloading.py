"""Starting the engine of a base model before the first request, so that a replica is ready only when it can answer."""

from __future__ import annotations

import grpc

from anneal.kit.errors import NotReady, Refusal
from anneal.serving.adapters.deployments import RegistryDeployments
from anneal.serving.engines import Engines


async def preload(engines: Engines, registry: RegistryDeployments, name: str) -> None:
    """Start the engine of a base model, unless it runs.

    Args:
        engines: where it will run.
        registry: knows the model.
        name: `projects/{project}/models/{model}`.

    Raises:
        NotReady: the registry does not answer or has no such model yet, or the engine did not start.
    """
    try:
        digest = await registry.base_digest(name)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            raise NotReady(f"the base model {name} is not in the registry yet: import it, and it is loaded") from error
        raise NotReady(f"the base model {name} cannot be looked up in the registry: {error.details()}") from error
    try:
        await engines.get(digest)
    except Refusal as refusal:
        raise NotReady(f"the base model {name} cannot be served: {refusal}") from refusal
