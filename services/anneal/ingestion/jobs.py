"""The bodies of ingestion's long jobs.

Parsing is slow, so ingesting keeps what it has parsed and a new attempt goes on there; importing is fast and begins
again. Both are pure functions of the uploads, so every attempt ends with the same manifest, and nothing is visible
before the manifest is published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import chain, islice
from pathlib import Path
from typing import Any

from anneal.ingestion.adapters import archives, containers
from anneal.ingestion.adapters.importers import IMPORTERS, detect_format
from anneal.ingestion.adapters.importers.base import BadRow, Imported
from anneal.ingestion.adapters.isolation import parser_process
from anneal.ingestion.adapters.packages import is_document
from anneal.ingestion.adapters.parts import Outcome, Parts
from anneal.ingestion.adapters.rows import Broken, Found, is_unicode
from anneal.ingestion.domain.errors import FormatUnknown, NothingToIngest
from anneal.ingestion.files import add_file, warning_lines
from anneal.ingestion.hub_import import read_from_hub
from anneal.ingestion.settings import IngestionOptions
from anneal.ingestion.sink import Sink
from anneal.kit import records
from anneal.kit.jobs.context import JobContext
from anneal.v1 import dataset_pb2
from anneal.v1 import ingestion_service_pb2 as pb
from anneal.v1.ingestion_service_pb2_grpc import IngestionServiceStub

SNIFF_ROWS = 50
SNIFF_LIMIT = 10_000
"""Readable rows that tell the format, and rows that are looked at in all to find so many."""
FILES_PER_PART = 16


def _options(ctx: JobContext) -> IngestionOptions:
    return IngestionOptions(**ctx.options["limits"])


def _upload(ctx: JobContext, name: str) -> pb.Upload:
    """What the service knows of an upload, whose staging area may be on another machine; its bytes are in the store."""
    stub: Any = IngestionServiceStub(ctx.channel("ingestion"))
    upload: pb.Upload = stub.GetUpload(pb.GetUploadRequest(name=name))
    return upload


def _local(ctx: JobContext, digest: str, name: str) -> Path:
    """A local copy of a blob under its own name, which some readers look at."""
    path = ctx.scratch / "files" / digest[7:23] / Path(name).name
    if not path.exists():
        ctx.store.download(digest, path)
    return path


def ingest_documents(ctx: JobContext, request: pb.IngestDocumentsRequest) -> dataset_pb2.DatasetVersion:
    """Parse, clean and cut documents.

    Raises:
        NothingToIngest: no file could be read.
        ArchiveRefused: an archive is damaged or beyond a limit.
    """
    options = _options(ctx)
    parts = Parts(ctx.scratch / "parts")
    files = _files(ctx, [_upload(ctx, name) for name in request.uploads], request.include, options)
    done = parts.count * FILES_PER_PART
    rest = islice(files, done, None)
    with parser_process(
        max_seconds=options.max_parse_seconds, max_memory_bytes=options.max_parse_memory_bytes, on_wait=ctx.check
    ) as parsers:
        while batch := list(islice(rest, FILES_PER_PART)):
            outcome = Outcome()
            for uri, data in batch:
                ctx.check()
                add_file(outcome, uri, data, request, parsers.parse, options.max_member_bytes)
                ctx.progress(done + outcome.files, None, "files", uri)
            ctx.count("bytes", outcome.size_bytes)
            done += outcome.files
            parts.append(outcome)
    sink = Sink(ctx, "document")
    warnings: Counter[str] = Counter()
    for part in parts:
        warnings.update(part.warnings)
        for row in part.rows:
            sink.keep(row)
        for row in part.quarantined:
            sink.quarantine(row)
    for line in warning_lines(warnings):
        ctx.log(line, level="warning")
    return sink.finish(request, ctx.operation)


def _files(
    ctx: JobContext, announced: Sequence[pb.Upload], include: Sequence[str], options: IngestionOptions
) -> Iterator[tuple[str, bytes]]:
    """Every wanted file with its path; of a file beyond the limit only the beginning, one byte too long."""
    for upload in announced:
        path = _local(ctx, upload.digest, upload.path)
        if archives.is_archive(path) and not is_document(path, upload.path):
            found = archives.members(path, options.archive_limits())
        else:
            with path.open("rb") as file:
                found = iter([(upload.path, file.read(options.max_member_bytes + 1))])
        yield from (one for one in found if not include or any(fnmatchcase(one[0], glob) for glob in include))


def import_dataset(ctx: JobContext, request: pb.ImportDatasetRequest) -> dataset_pb2.DatasetVersion:
    """Import rows that already are examples, or raw text.

    Raises:
        NothingToIngest: no row could be read.
        FormatUnknown: no importer recognises the rows.
        FileUnreadable: a file is damaged as a whole.
        Refusal: the Hub did not give the dataset, or has no such subset or split.
    """
    options = _options(ctx)
    splits: dict[str, str] = {}
    if request.hub_id:
        found, splits = read_from_hub(ctx, request, options, lambda path, name: _located(path, name, request, options))
    else:
        found = _located(*_import_file(ctx, request), request, options)
    head = [] if request.format else _head(found)
    importer = IMPORTERS[request.format or _detect(head)]
    sink = Sink(ctx, importer.kind, splits)
    for number, (name, item) in enumerate(chain(head, found), start=1):
        if number % 1000 == 0:
            ctx.check()
            ctx.progress(number, None, "rows")
        _import(sink, importer, name, item, request)
    ctx.progress(sink.kept + sink.quarantined, None, "rows")
    return sink.finish(request, ctx.operation)


Located = tuple[str, Found | Broken]


def _import_file(ctx: JobContext, request: pb.ImportDatasetRequest) -> tuple[Path, str]:
    if request.upload:
        announced = _upload(ctx, request.upload)
        return _local(ctx, announced.digest, announced.path), announced.path
    return _local(ctx, request.blob, "blob"), request.blob


def _located(path: Path, name: str, request: pb.ImportDatasetRequest, options: IngestionOptions) -> Iterator[Located]:
    container = request.container or containers.detect_container(path, name)
    rows = containers.read_rows(
        path, container, name, max_line_bytes=options.max_line_bytes, max_depth=options.max_json_depth
    )
    return ((name, row) for row in rows)


def _head(found: Iterator[Located]) -> list[Located]:
    """The rows up to the one that makes enough readable ones, broken rows among them."""
    head, readable = [], 0
    for row in islice(found, SNIFF_LIMIT):
        head.append(row)
        readable += isinstance(row[1], Found)
        if readable == SNIFF_ROWS:
            break
    return head


def _detect(head: list[Located]) -> str:
    """The format most of the first readable rows carry.

    Raises:
        FormatUnknown: none carries the marks of any.
    """
    found = Counter(
        name for _, item in head if isinstance(item, Found) and (name := detect_format(item.row)) is not None
    )
    if found:
        return found.most_common(1)[0][0]
    readable = next((item for _, item in head if isinstance(item, Found)), None)
    if readable is None:
        raise NothingToIngest(f"none of the first {len(head)} rows could be read", rows=str(len(head)))
    fields = ", ".join(sorted(map(str, readable.row)))[:200]
    text = f"the rows have the fields {fields}, which no importer knows; name one of {', '.join(IMPORTERS)}"
    raise FormatUnknown(text, violations=[("format", text)])


def _import(sink: Sink, importer: Any, name: str, item: Found | Broken, request: pb.ImportDatasetRequest) -> None:
    def quarantine(reason: str, cause: str, raw: bytes | str) -> None:
        sink.quarantine(
            records.quarantined(name, byte_offset=item.byte_offset, line=item.line, cause=cause, reason=reason, raw=raw)
        )

    if isinstance(item, Broken):
        return quarantine(item.reason, item.cause, item.raw)
    if not is_unicode(item.row):
        return quarantine("invalid_unicode", "a text holds half of a surrogate pair", str(dict(item.row)))
    try:
        made = list(importer.read(item.row))
    except BadRow as error:
        return quarantine(error.reason, str(error), str(dict(item.row)))
    for one in made:
        sink.keep(_imported_row(one, name, item, request), name)


def _imported_row(one: Imported, name: str, item: Found, request: pb.ImportDatasetRequest) -> dict[str, Any]:
    origin = {"file": name, "line": item.line, "byte_offset": item.byte_offset}
    meta = dict(one.meta or {})
    if one.text:
        uri = str(meta.get("uri") or meta.get("url") or f"{name}#{item.line}")
        return records.document(
            one.text,
            uri=uri,
            title=str(meta.get("title", "")),
            license=request.license,
            meta={**meta, "imported": origin},
        )
    return records.conversation(
        one.messages, source=f"{name}#{item.line}", tools=one.tools, origin={"imported": origin}, meta=meta
    )
