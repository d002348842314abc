"""The base model a person names: a folder and a Hub id are told apart before anything starts, then it is imported."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

import grpc

from anneal.cli.client import Client, Done, OnEvent, OperationFailed
from anneal.kit.errors import Invalid
from anneal.kit.rpc.status import decode_status, refusal_of
from anneal.training.importing import check_hub_id
from anneal.v1 import model_pb2
from anneal.v1 import registry_service_pb2 as registry
from anneal.v1 import training_service_pb2 as training

MAX_ID = 63


class BaseModelUnclear(Exception):
    """What was named is neither a folder nor a Hub id; the text says why."""


class BaseModelChanged(Exception):
    """Other files were imported under the same id before."""


def folder_or_hub(text: str) -> Path | None:
    """The folder that a text names, links resolved; None where it is a Hub id.

    A path that is not there must not become a Hub id: that would fail late, and speak of the Hub.

    Raises:
        BaseModelUnclear: it is no folder and no Hub id, or its first part is a folder here, so that it reads as both.
    """
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if folder.exists():
        raise BaseModelUnclear(f"{text} is a file; name the folder that holds the model")
    owner = text.partition("/")[0]
    try:
        name, revision = check_hub_id(text)
    except Invalid:
        raise BaseModelUnclear(
            f"there is no folder {text}, and a Hub id reads owner/name or owner/name@revision"
        ) from None
    if owner.startswith((".", "~")) or os.path.isabs(text):
        raise BaseModelUnclear(f"there is no folder {text}")
    if revision is None and Path(owner).is_dir():
        raise BaseModelUnclear(f"there is no {text} in the folder {owner}; if the Hub's is meant, say {name}@main")
    return None


def model_id_of(text: str) -> str:
    """An id made of the last part of a folder's path or of a Hub id."""
    folder = folder_or_hub(text)
    tail = folder.name if folder else text.partition("@")[0].rpartition("/")[2]
    return re.sub("[^a-z0-9]+", "-", tail.lower())[:MAX_ID].strip("-") or "base"


def import_model(
    client: Client, request: training.ImportModelRequest, on_event: OnEvent
) -> tuple[model_pb2.Model, Done]:
    """Import a model, whatever was imported before: the name of a folder does not say what is in it now.

    Returns:
        The model, and the operation; `skipped` where the registry had these very files under this id before.

    Raises:
        BaseModelChanged: the id has other files.
        OperationFailed: the import failed otherwise.
    """
    name = f"{request.parent}/models/{request.model_id}"
    before = _digest(client, name)
    request.request_id = str(uuid.uuid4())
    try:
        operation = client.wait_or_cancel(client.training.ImportModel(request).name, on_event)
    except OperationFailed as error:
        refusal = decode_status(error.operation.error)
        if refusal is None or refusal.reason != "MODEL_EXISTS":
            raise
        where = request.folder or request.hub_id
        raise BaseModelChanged(
            f"{where} is not what was imported as model {request.model_id!r} before, and a name keeps its files: "
            "give it another id (base_model.id in the recipe, the folder's name with --base-model), or put the old "
            "files back"
        ) from error
    made = model_pb2.Model()
    operation.response.Unpack(made)
    return made, Done(operation, skipped=made.digest == before)


def _digest(client: Client, name: str) -> str | None:
    try:
        return client.registry.GetModel(registry.GetModelRequest(name=name)).digest
    except grpc.RpcError as error:
        refusal = refusal_of(error)
        if refusal is None or refusal.reason != "MODEL_MISSING":
            raise
        return None
