"""The body of the job that imports rows: files become conversations, preferences or documents.

A format that is not named is told by the marks of the first rows. Where two fit, or none, that is asked, not guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from anneal.ingestion.adapters import containers
from anneal.ingestion.adapters.columns import WANTED, Columns, fields_of, format_of, unmapped
from anneal.ingestion.adapters.importers import IMPORTERS, formats_of
from anneal.ingestion.adapters.importers.base import BadRow, Importer, Joiner
from anneal.ingestion.adapters.placeholders import Placeholders
from anneal.ingestion.adapters.rows import Broken, Found
from anneal.ingestion.domain.errors import FormatAmbiguous, FormatUnknown, NothingToIngest, PlaceholdersMissing
from anneal.ingestion.hub_import import read_from_hub
from anneal.ingestion.jobs import local_copy, options_of, upload_of
from anneal.ingestion.reading import Reading
from anneal.ingestion.settings import IngestionOptions
from anneal.ingestion.sink import Sink, commonest
from anneal.kit.errors import Invalid
from anneal.kit.jobs.context import JobContext
from anneal.v1 import dataset_pb2
from anneal.v1 import ingestion_service_pb2 as pb

SNIFF_ROWS = 50
SNIFF_LIMIT = 10_000
"""Readable rows that tell the format, and rows that are looked at in all to find so many."""
OTHER_SHARE = 0.1
"""Rows of another format are quarantined up to this share of those looked at; where there are more, that is asked."""

Located = tuple[str, Found | Broken]


def import_dataset(ctx: JobContext, request: pb.ImportDatasetRequest) -> dataset_pb2.DatasetVersion:
    """Import rows that already are examples, or raw text.

    Raises:
        NothingToIngest: no row could be read.
        FormatUnknown: no importer recognises the rows.
        FormatAmbiguous: more than one does.
        PlaceholdersMissing: every row holds placeholders that the order does not fill.
        FileUnreadable: a file is damaged as a whole.
        Refusal: the Hub did not give the dataset, or has no such subset or split.
    """
    options = options_of(ctx)
    splits: dict[str, str] = {}
    if request.hub_id:
        found, splits = read_from_hub(ctx, request, options, lambda path, name: _located(path, name, request, options))
    else:
        found = _located(*_import_file(ctx, request), request, options)
    head = _head(found)
    importer = IMPORTERS[request.format or _detect(head, request)]
    placeholders = Placeholders(request.placeholders)
    columns = Columns(request.columns, importer.fields)
    _check_head(head, request, importer, columns, placeholders)
    sink = Sink(ctx, importer.kind, splits)
    reading = Reading(sink, importer, columns, placeholders, request)
    rows = _watched(ctx, chain(head, found))
    if isinstance(importer, Joiner):
        reading.join(importer, rows)
    else:
        for name, item in rows:
            reading.take(name, item)
    ctx.progress(sink.kept + sink.quarantined, None, "rows")
    for name in placeholders.unused:
        ctx.log(f"no row holds the placeholder {{{{{name}}}}}", level="warning")
    return sink.finish(request, ctx.operation)


def _watched(ctx: JobContext, rows: Iterator[Located]) -> Iterator[Located]:
    for number, row in enumerate(rows, start=1):
        if number % 1000 == 0:
            ctx.check()
            ctx.progress(number, None, "rows")
        yield row


def _import_file(ctx: JobContext, request: pb.ImportDatasetRequest) -> tuple[Path, str]:
    if request.upload:
        announced = upload_of(ctx, request.upload)
        return local_copy(ctx, announced.digest, announced.path), announced.path
    return local_copy(ctx, request.blob, "blob"), request.blob


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


def _readable(head: list[Located]) -> list[dict[str, Any]]:
    return [dict(item.row) for _, item in head if isinstance(item, Found)]


def _detect(head: list[Located], request: pb.ImportDatasetRequest) -> str:
    """The format of the columns that are mapped, or the one that the first readable rows carry the marks of.

    Raises:
        FormatUnknown: none carries the marks of any.
        FormatAmbiguous: they carry the marks of more than one.
        NothingToIngest: none of them could be read.
    """
    rows = _readable(head)
    if not rows:
        raise NothingToIngest(_unreadable(head), rows=str(len(head)))
    if request.columns:
        return format_of(request.columns) or "openai"  # checked when the order was accepted
    fits = Counter(formats_of(fields_of(row)) for row in rows)
    several = sorted({name for names in fits if len(names) > 1 for name in names}, key=list(IMPORTERS).index)
    if several:
        raise _ambiguous(f"the rows fit more than one format: {', '.join(several)}; name the one that is meant")
    known = Counter({names[0]: n for names, n in fits.items() if names})
    if not known:
        fields = ", ".join(sorted(map(str, rows[0])))[:200]
        text = (
            f"the rows have the fields {fields}, which no importer knows; say in `columns` which of them are {WANTED}, "
            f"or name one of {', '.join(IMPORTERS)} as `format`"
        )
        raise FormatUnknown(text, violations=[("format", text)])
    (name, _), *others = known.most_common()
    if sum(n for _, n in others) > OTHER_SHARE * len(rows):
        told = ", ".join(f"{n} of {other}" for other, n in known.most_common())
        raise _ambiguous(f"the first {len(rows)} rows are of different formats ({told}); name the one that is meant")
    return name


def _unreadable(head: list[Located]) -> str:
    """What is to be said where no row could be read."""
    if not head:
        return "no row was found"
    broken = [(name, item) for name, item in head if isinstance(item, Broken)]
    causes = {item.reason: f"{name}, line {item.line}: {item.cause}" for name, item in reversed(broken)}
    told = commonest(Counter(item.reason for _, item in broken), causes)
    hint = "with a `format` and `allow_empty` the version is made all the same, and they can be read in it"
    return f"none of the first {len(head)} rows could be read: {told}; {hint}"


def _ambiguous(text: str) -> FormatAmbiguous:
    return FormatAmbiguous(text, violations=[("format", text)])


def _check_head(
    head: list[Located],
    request: pb.ImportDatasetRequest,
    importer: Importer,
    columns: Columns,
    placeholders: Placeholders,
) -> None:
    """See before all rows are read whether none of them can be.

    Raises:
        Invalid: a mapped column is in none of the first rows.
        PlaceholdersMissing: each of them holds placeholders that are not filled.
    """
    rows = _readable(head)
    for target in unmapped(rows, request.columns) if rows else ():
        known = ", ".join(sorted({str(name) for row in rows for name in row}))[:300]
        text = f"no row has the column {request.columns[target]!r}; there are {known}"
        raise Invalid.field(f"columns[{target}]", text)
    if isinstance(importer, Joiner):
        return
    missing: list[list[str]] = []
    for row in rows:
        try:
            for one in importer.read(columns.read(row)[0]):
                missing.append(placeholders.left(one))
        except BadRow:
            continue
    if missing and all(missing):
        names = sorted({name for found in missing for name in found})
        text = f"the answers hold {', '.join(f'{{{{{name}}}}}' for name in names)}: say what stands there, by name"
        raise PlaceholdersMissing(text, violations=[("placeholders", text)])
