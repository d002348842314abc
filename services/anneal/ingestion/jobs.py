"""The bodies of ingestion's long jobs.

Parsing is slow, so ingesting keeps what it has parsed and a new attempt goes on there; importing (`importing.py`) is
fast and begins again. Both are pure functions of the uploads, so every attempt ends with the same manifest, and nothing
is visible before the manifest is published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

from anneal.ingestion.adapters import archives
from anneal.ingestion.adapters.isolation import parser_process
from anneal.ingestion.adapters.packages import is_document
from anneal.ingestion.adapters.parts import Outcome, Parts
from anneal.ingestion.files import add_file, warning_lines
from anneal.ingestion.settings import IngestionOptions
from anneal.ingestion.sink import Sink
from anneal.kit.jobs.context import JobContext
from anneal.v1 import dataset_pb2
from anneal.v1 import ingestion_service_pb2 as pb
from anneal.v1.ingestion_service_pb2_grpc import IngestionServiceStub

FILES_PER_PART = 16


def options_of(ctx: JobContext) -> IngestionOptions:
    """The limits that the service gave the job."""
    return IngestionOptions(**ctx.options["limits"])


def upload_of(ctx: JobContext, name: str) -> pb.Upload:
    """What the service knows of an upload, whose staging area may be on another machine; its bytes are in the store."""
    stub: Any = IngestionServiceStub(ctx.channel("ingestion"))
    upload: pb.Upload = stub.GetUpload(pb.GetUploadRequest(name=name))
    return upload


def local_copy(ctx: JobContext, digest: str, name: str) -> Path:
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
    options = options_of(ctx)
    parts = Parts(ctx.scratch / "parts")
    files = _files(ctx, [upload_of(ctx, name) for name in request.uploads], request.include, options)
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
        path = local_copy(ctx, upload.digest, upload.path)
        if archives.is_archive(path) and not is_document(path, upload.path):
            found = archives.members(path, options.archive_limits())
        else:
            with path.open("rb") as file:
                found = iter([(upload.path, file.read(options.max_member_bytes + 1))])
        yield from (one for one in found if not include or any(fnmatchcase(one[0], glob) for glob in include))
