"""How a service makes the result of a data job visible: a dataset version in the registry."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from anneal.kit.digests import version_id
from anneal.kit.manifests import Manifest
from anneal.kit.names import parent_of
from anneal.v1 import dataset_pb2
from anneal.v1.registry_service_pb2 import CreateDatasetVersionRequest
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub

_KINDS = {
    "document": dataset_pb2.DatasetKind.DATASET_KIND_DOCUMENT,
    "conversation": dataset_pb2.DatasetKind.DATASET_KIND_CONVERSATION,
    "preference": dataset_pb2.DatasetKind.DATASET_KIND_PREFERENCE,
}


def dataset_publisher(channel: Any) -> Callable[[Any, str], Awaitable[Message]]:
    """The `publish` of a data job: names the version its body made; twice gives the same version.

    Args:
        channel: an asyncio channel to the registry.
    """
    registry: Any = RegistryServiceStub(channel)

    async def publish(version: dataset_pb2.DatasetVersion, operation: str) -> Message:
        created: Message = await registry.CreateDatasetVersion(
            CreateDatasetVersionRequest(
                parent=parent_of(version.name),
                dataset_version=version,
                request_id=str(uuid.uuid5(uuid.NAMESPACE_URL, operation)),
            )
        )
        return created

    return publish


def unpublished_version(
    manifest: Manifest, request: Any, operation: str, parents: Sequence[str] = ()
) -> dataset_pb2.DatasetVersion:
    """What the body of a data job hands over: the version as its service will publish it.

    Args:
        manifest: what was written.
        request: the order, with `parent` and `dataset_id`.
        operation: name of the job's operation.
        parents: resource names of the dataset versions it was made from.
    """
    order = json_format.MessageToDict(request, preserving_proto_field_name=True)
    order.pop("request_id", None)  # says who asked, not what was made
    recipe = json.dumps(order, ensure_ascii=False, sort_keys=True)
    return dataset_pb2.DatasetVersion(
        name=f"{request.parent}/datasets/{request.dataset_id}/versions/{version_id(manifest.digest)}",
        digest=manifest.digest,
        kind=_KINDS[manifest.kind],
        parents=parents,
        operation=operation,
        recipe_json=recipe,
    )


def validated_operation() -> operations_pb2.Operation:
    """The answer to `validate_only`: done, and nothing was started."""
    operation = operations_pb2.Operation(done=True)
    operation.response.Pack(dataset_pb2.DatasetVersion())
    return operation
