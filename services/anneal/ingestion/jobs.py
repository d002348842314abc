"""The bodies of ingestion's long jobs.

A new attempt reads everything again: reading is a pure function of the uploads, so it ends with the same manifest, and
nothing is visible before the manifest is published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import chain, islice
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from anneal.ingestion.adapters import archives, containers
from anneal.ingestion.adapters.chunks import cut
from anneal.ingestion.adapters.hub import download
from anneal.ingestion.adapters.importers import IMPORTERS, detect_format
from anneal.ingestion.adapters.importers.base import BadRow, Imported
from anneal.ingestion.adapters.parsers import PARSERS, media_type_of
from anneal.ingestion.adapters.uploads import Announced, Uploads
from anneal.ingestion.domain.documents import ParsedDocument
from anneal.ingestion.domain.errors import FormatUnknown, NothingToIngest
from anneal.ingestion.settings import IngestionOptions
from anneal.kit import records
from anneal.kit.datasets import DatasetWriter
from anneal.kit.jobs.context import JobContext
from anneal.kit.publishing import unpublished_version
from anneal.kit.records import RecordKind
from anneal.v1 import dataset_pb2
from anneal.v1 import ingestion_service_pb2 as pb

BATCH_ROWS = 512
SNIFF_ROWS = 50


class _Sink:
    """Gathers rows into batches and counts them."""

    def __init__(self, ctx: JobContext, kind: RecordKind) -> None:
        self._ctx, self._kind = ctx, kind
        self.writer = DatasetWriter(ctx.store, kind)
        self._rows: list[dict[str, Any]] = []
        self._bad: list[dict[str, Any]] = []
        self._reasons: Counter[str] = Counter()
        self.kept = 0
        self.quarantined = 0

    def keep(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        self.kept += 1
        if len(self._rows) >= BATCH_ROWS:
            self.flush()

    def quarantine(self, row: dict[str, Any]) -> None:
        self._bad.append(row)
        self._reasons[row["reason"]] += 1
        self.quarantined += 1
        if len(self._bad) >= BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self.writer.add(records.to_table(self._kind, self._rows))
            self._ctx.count("rows", len(self._rows), verdict="kept", reason="")
        if self._bad:
            self.writer.add(records.quarantine_table(self._bad), part="quarantined")
        for reason, n in self._reasons.items():
            self._ctx.count("rows", n, verdict="quarantined", reason=reason)
        self._rows, self._bad = [], []
        self._reasons.clear()

    def finish(self, request: Any, operation: str) -> dataset_pb2.DatasetVersion:
        """Write the manifest.

        Raises:
            NothingToIngest: not one row was kept.
        """
        self.flush()
        if not self.kept:
            raise NothingToIngest(
                f"nothing became a row: {self.quarantined} were quarantined and no other was found",
                quarantined=str(self.quarantined),
            )
        order = json_format.MessageToDict(request, preserving_proto_field_name=True)
        for key in ("request_id", "parent", "dataset_id"):
            order.pop(key, None)
        manifest = self.writer.finish(rows_in=self.kept + self.quarantined, steps=[order])
        return unpublished_version(manifest, request, operation)


def _told(ctx: JobContext) -> tuple[IngestionOptions, Uploads]:
    return IngestionOptions(**ctx.options["limits"]), Uploads(Path(ctx.options["uploads"]), ctx.store)


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
    options, uploads = _told(ctx)
    sink = _Sink(ctx, "document")
    done = 0
    for announced in [uploads.blob(name) for name in request.uploads]:
        for uri, data in _files(ctx, announced, options):
            if request.include and not any(fnmatchcase(uri, glob) for glob in request.include):
                continue
            ctx.check()
            ctx.count("bytes", len(data))
            _take(sink, uri, data, request)
            done += 1
            ctx.progress(done, None, "files", uri)
    return sink.finish(request, ctx.operation)


def _files(ctx: JobContext, announced: Announced, options: IngestionOptions) -> Iterator[tuple[str, bytes]]:
    path = _local(ctx, announced.digest, announced.path)
    if archives.is_archive(path):
        yield from archives.members(path, options.archive_limits())
    else:
        yield announced.path, path.read_bytes()


def _take(sink: _Sink, uri: str, data: bytes, request: pb.IngestDocumentsRequest) -> None:
    """One file: its rows, or why there are none."""
    media_type = request.media_type or media_type_of(data, uri)
    if media_type is None:
        cause = "no parser reads this kind of file"
        sink.quarantine(records.quarantined(uri, byte_offset=0, cause=cause, reason="unknown_media_type", raw=data))
        return
    try:
        document = PARSERS[media_type](data, uri)
    except (ValueError, RecursionError, LookupError) as error:
        cause = f"{type(error).__name__}: {error}"
        sink.quarantine(records.quarantined(uri, byte_offset=0, cause=cause, reason="unreadable", raw=data))
        return
    if not document.text.strip():
        cause = "the file has no text"
        sink.quarantine(records.quarantined(uri, byte_offset=0, cause=cause, reason="empty", raw=data))
        return
    for row in _rows(document, request):
        sink.keep(row)


def _rows(document: ParsedDocument, request: pb.IngestDocumentsRequest) -> Iterator[dict[str, Any]]:
    def row(text: str, meta: Mapping[str, Any]) -> dict[str, Any]:
        return records.document(
            text,
            uri=document.uri,
            title=document.title,
            media_type=document.media_type,
            language=document.language or "",
            license=request.license,
            meta=meta,
        )

    whole = row(document.text, document.meta())
    if not request.HasField("chunking"):
        yield whole
        return
    chunking = request.chunking
    for chunk in cut(document, chunking.max_characters, chunking.overlap_characters):
        place = {"document": whole["id"], "index": chunk.index, "start": chunk.start, "end": chunk.end}
        yield row(document.text[chunk.start : chunk.end], {"chunk": place})


def import_dataset(ctx: JobContext, request: pb.ImportDatasetRequest) -> dataset_pb2.DatasetVersion:
    """Import rows that already are examples, or raw text.

    Raises:
        NothingToIngest: no row could be read.
        FormatUnknown: no importer recognises the rows.
        HubUnreachable: the Hub did not give the dataset.
    """
    options, uploads = _told(ctx)
    files = _import_files(ctx, request, uploads)
    found = chain.from_iterable(_located(path, name, request, options) for path, name in files)
    head = list(islice(found, SNIFF_ROWS))
    importer = IMPORTERS[request.format or _detect(head)]
    sink = _Sink(ctx, importer.kind)
    for number, (name, item) in enumerate(chain(head, found), start=1):
        if number % 1000 == 0:
            ctx.check()
            ctx.progress(number, None, "rows")
        _import(sink, importer, name, item, request)
    ctx.progress(sink.kept + sink.quarantined, None, "rows")
    return sink.finish(request, ctx.operation)


Located = tuple[str, containers.Found | containers.Broken]


def _import_files(ctx: JobContext, request: pb.ImportDatasetRequest, uploads: Uploads) -> list[tuple[Path, str]]:
    match request.WhichOneof("from"):
        case "upload":
            announced = uploads.blob(request.upload)
            return [(_local(ctx, announced.digest, announced.path), announced.path)]
        case "hub_id":
            return download(request.hub_id, ctx.scratch / "hub")
    return [(_local(ctx, request.blob, "blob"), request.blob)]


def _located(path: Path, name: str, request: pb.ImportDatasetRequest, options: IngestionOptions) -> Iterator[Located]:
    container = request.container or containers.detect_container(path)
    rows = containers.read_rows(
        path, container, max_line_bytes=options.max_line_bytes, max_depth=options.max_json_depth
    )
    return ((name, row) for row in rows)


def _detect(head: list[Located]) -> str:
    """The format most of the first readable rows carry.

    Raises:
        FormatUnknown: none carries the marks of any.
    """
    found = Counter(
        name for _, item in head if isinstance(item, containers.Found) and (name := detect_format(item.row)) is not None
    )
    if found:
        return found.most_common(1)[0][0]
    readable = next((item for _, item in head if isinstance(item, containers.Found)), None)
    if readable is None:
        raise NothingToIngest(f"none of the first {len(head)} rows could be read", rows=str(len(head)))
    fields = ", ".join(sorted(map(str, readable.row)))[:200]
    text = f"the rows have the fields {fields}, which no importer knows; name one of {', '.join(IMPORTERS)}"
    raise FormatUnknown(text, violations=[("format", text)])


def _import(
    sink: _Sink, importer: Any, name: str, item: containers.Found | containers.Broken, request: pb.ImportDatasetRequest
) -> None:
    if isinstance(item, containers.Broken):
        sink.quarantine(
            records.quarantined(
                name, byte_offset=item.byte_offset, line=item.line, cause=item.cause, reason=item.reason, raw=item.raw
            )
        )
        return
    try:
        made = list(importer.read(item.row))
    except BadRow as error:
        sink.quarantine(
            records.quarantined(
                name,
                byte_offset=item.byte_offset,
                line=item.line,
                cause=str(error),
                reason=error.reason,
                raw=str(dict(item.row)),
            )
        )
        return
    for one in made:
        sink.keep(_imported_row(one, name, item, request))


def _imported_row(one: Imported, name: str, item: containers.Found, request: pb.ImportDatasetRequest) -> dict[str, Any]:
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
