"""Requests checked and decoded, uploads encoded."""

from __future__ import annotations

from collections.abc import Sequence

from google.longrunning import operations_pb2

from anneal.ingestion.adapters.columns import TARGETS, WANTED, format_of
from anneal.ingestion.adapters.hub import check_hub_id
from anneal.ingestion.adapters.hub_rows import check_split
from anneal.ingestion.adapters.importers import CONTAINERS, IMPORTERS
from anneal.ingestion.adapters.parsers import PARSERS
from anneal.ingestion.adapters.uploads import Announced, UploadState
from anneal.ingestion.domain.dataset_card import is_license
from anneal.ingestion.domain.errors import HubPushNotAllowed
from anneal.kit import names
from anneal.kit.digests import hex_of
from anneal.kit.errors import Invalid
from anneal.kit.store import safe_relative_path
from anneal.v1 import ingestion_service_pb2 as pb

_PAIRS = ("prompt_completion", "kto")
MAX_CHUNK_BYTES = 1 << 20


def decode_header(header: pb.UploadHeader, max_bytes: int) -> Announced:
    """What an upload announces.

    Raises:
        Invalid: a name, path, size or digest that cannot be.
    """
    names.parse(header.parent, "project", "header.parent")
    names.check_id(header.upload_id, "header.upload_id")
    if len(header.upload_id) < 4:
        raise Invalid.field("header.upload_id", "is shorter than 4 characters")
    safe_relative_path(header.path, "header.path")
    hex_of(header.digest, "header.digest")
    if not 0 < header.size_bytes <= max_bytes:
        raise Invalid.field("header.size_bytes", f"{header.size_bytes} is not 1 to {max_bytes}")
    return Announced(
        name=f"{header.parent}/uploads/{header.upload_id}",
        path=header.path,
        size_bytes=header.size_bytes,
        digest=header.digest,
    )


def check_chunk(message: pb.UploadDocumentsRequest) -> None:
    """Check a message that follows a header.

    Raises:
        Invalid: it is no chunk, or an empty or too large one.
    """
    if message.WhichOneof("message") != "chunk":
        raise Invalid.field("chunk", "every message after the header must be a chunk")
    if not 0 < len(message.chunk.data) <= MAX_CHUNK_BYTES:
        raise Invalid.field("chunk.data", f"holds {len(message.chunk.data)} bytes, not 1 to 1 MiB")


def encode_upload(state: UploadState) -> pb.Upload:
    """How far an upload is, as a resource."""
    announced = state.announced
    return pb.Upload(
        name=announced.name,
        path=announced.path,
        size_bytes=announced.size_bytes,
        committed_bytes=state.committed_bytes,
        digest=announced.digest,
        complete=state.complete,
    )


def check_ingest(request: pb.IngestDocumentsRequest) -> None:
    """Check an order to ingest documents.

    Raises:
        Invalid: with the field named.
    """
    names.parse(request.parent, "project", "parent")
    names.check_id(request.dataset_id, "dataset_id")
    for index, upload in enumerate(request.uploads):
        names.parse(upload, "upload", f"uploads[{index}]")
        if names.project_of(upload) != request.parent:
            raise Invalid.field(f"uploads[{index}]", f"{upload} is not in {request.parent}")
    if request.media_type and request.media_type not in PARSERS:
        known = ", ".join(sorted(PARSERS))
        raise Invalid.field("media_type", f"{request.media_type!r} has no parser; there are: {known}")
    if request.HasField("chunking"):
        chunking = request.chunking
        if chunking.max_characters < 16:
            raise Invalid.field("chunking.max_characters", f"{chunking.max_characters} is below 16")
        if not 0 <= chunking.overlap_characters < chunking.max_characters:
            raise Invalid.field("chunking.overlap_characters", "must be at least 0 and below max_characters")
        if not 0 <= chunking.min_characters <= chunking.max_characters // 2:
            half = f"must be 0 to {chunking.max_characters // 2}, half of max_characters"
            raise Invalid.field("chunking.min_characters", half)


def check_import(request: pb.ImportDatasetRequest) -> None:
    """Check an order to import rows.

    Raises:
        Invalid: with the field named.
    """
    names.parse(request.parent, "project", "parent")
    names.check_id(request.dataset_id, "dataset_id")
    origin = request.WhichOneof("from")
    if origin is None:
        raise Invalid.field("from", "one of `upload`, `blob` and `hub_id` is required")
    if origin == "upload":
        names.parse(request.upload, "upload", "upload")
        if names.project_of(request.upload) != request.parent:
            raise Invalid.field("upload", f"{request.upload} is not in {request.parent}")
    if origin == "blob":
        hex_of(request.blob, "blob")
    if origin == "hub_id":
        check_hub_id(request.hub_id)
    elif request.hub_config or request.hub_split:
        field = "hub_config" if request.hub_config else "hub_split"
        raise Invalid.field(field, "is for datasets of the Hub, with `hub_id`")
    if request.hub_split:
        check_split(request.hub_split)
    if request.format and request.format not in IMPORTERS:
        raise Invalid.field("format", f"{request.format!r} is none of {', '.join(sorted(IMPORTERS))}")
    _check_columns(request)
    if request.container and request.container not in CONTAINERS:
        raise Invalid.field("container", f"{request.container!r} is none of {', '.join(CONTAINERS)}")


def check_push(request: pb.PushDatasetRequest, owners: Sequence[str]) -> None:
    """Check an order to publish a dataset version.

    Raises:
        Invalid: with the field named.
        HubPushNotAllowed: the settings do not name the repository's owner.
    """
    names.parse(request.parent, "project", "parent")
    names.parse(request.dataset_version, "dataset_version", "dataset_version")
    if names.project_of(request.dataset_version) != request.parent:
        raise Invalid.field("dataset_version", f"{request.dataset_version} is not in {request.parent}")
    if request.license and not is_license(request.license):
        raise Invalid.field("license", f"{request.license[:80]!r} is not like `apache-2.0` or `cc-by-4.0`")
    name, _ = check_hub_id(request.hub_id)
    owner = name.partition("/")[0]
    if owner not in owners:
        allowed = ", ".join(owners) or "none"
        raise HubPushNotAllowed(
            f"datasets may not be published under {owner}; the operator names the owners (ingestion.hub_owners, now: "
            f"{allowed})",
            owner=owner,
        )


def encode_validated_push() -> operations_pb2.Operation:
    """The answer to `validate_only`: done, and nothing was started."""
    operation = operations_pb2.Operation(done=True)
    operation.response.Pack(pb.PushedDataset())
    return operation


def _check_columns(request: pb.ImportDatasetRequest) -> None:
    columns, known = set(request.columns), set(TARGETS)
    for target, column in request.columns.items():
        if not column:
            raise Invalid.field(f"columns[{target}]", "names no column")
    for name in request.placeholders:
        if not name.strip():
            raise Invalid.field("placeholders", "a placeholder has no name")
    if request.format:
        known = {*IMPORTERS[request.format].fields, *({"answer", "prompt"} if request.format in _PAIRS else ())}
    if unknown := sorted(columns - known):
        raise Invalid.field(f"columns[{unknown[0]}]", f"is none of {', '.join(sorted(known))}")
    if columns and not request.format and format_of(columns) is None:
        raise Invalid.field("columns", f"say which columns are {WANTED}; there are {', '.join(sorted(columns))}")
