"""One row after the other on its way from a file into a dataset: read by its format, or quarantined with the cause."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.columns import Columns, plain
from anneal.ingestion.adapters.importers.base import BadRow, Imported, Importer, Joiner
from anneal.ingestion.adapters.placeholders import Placeholders
from anneal.ingestion.adapters.rows import Broken, Found, is_unicode
from anneal.ingestion.domain.errors import FormatUnknown
from anneal.ingestion.sink import Sink
from anneal.kit import records
from anneal.v1 import ingestion_service_pb2 as pb

Located = tuple[str, Found | Broken]


class Reading:
    """Reads rows of one format into a sink."""

    def __init__(
        self,
        sink: Sink,
        importer: Importer,
        columns: Columns,
        placeholders: Placeholders,
        request: pb.ImportDatasetRequest,
    ) -> None:
        self._sink, self._importer, self._columns = sink, importer, columns
        self._placeholders, self._license = placeholders, request.license

    def take(self, name: str, item: Found | Broken) -> None:
        """Take one row of a file."""
        try:
            self._keep(*self._fields(item), name, item)
        except BadRow as error:
            self._quarantine(name, item, error)

    def join(self, importer: Joiner, items: Iterable[Located]) -> None:
        """Take all rows of the files, of which several make one.

        Raises:
            FormatUnknown: there are more than can be joined.
        """
        places: list[Located] = []
        rests: dict[int, dict[str, Any]] = {}

        def rows() -> Iterator[tuple[int, Mapping[str, Any]]]:
            for name, item in items:
                try:
                    fields, rest = self._fields(item)
                except BadRow as error:
                    self._quarantine(name, item, error)
                    continue
                number = len(places)
                places.append((name, Found(byte_offset=item.byte_offset, line=item.line, row={}, raw=_raw(item))))
                if rest:
                    rests[number] = rest
                yield number, fields

        try:
            joined = importer.join(rows())
            for number, found in joined:
                name, item = places[number]
                if isinstance(found, BadRow):
                    self._quarantine(name, item, found)
                    continue
                try:
                    self._keep(found, rests.get(number, {}), name, item)
                except BadRow as error:
                    self._quarantine(name, item, error)
        except BadRow as error:
            raise FormatUnknown(str(error), violations=[("format", str(error))]) from error

    def _fields(self, item: Found | Broken) -> tuple[dict[str, Any], dict[str, Any]]:
        if isinstance(item, Broken):
            raise BadRow(item.reason, item.cause)
        if not is_unicode(item.row):
            raise BadRow("invalid_unicode", "a text holds half of a surrogate pair")
        return self._columns.read(item.row)

    def _keep(self, fields: Mapping[str, Any], rest: Mapping[str, Any], name: str, item: Found | Broken) -> None:
        made = [self._placeholders.fill(one) for one in self._importer.read(fields)]
        for one in made:
            self._sink.keep(self._row(one, rest, name, item), name)

    def _row(self, one: Imported, rest: Mapping[str, Any], name: str, item: Found | Broken) -> dict[str, Any]:
        origin = {"file": name, "line": item.line, "byte_offset": item.byte_offset}
        meta = {**rest, **plain(dict(one.meta or {}))}
        source = f"{name}#{item.line}"
        if self._importer.kind == "document":
            return records.document(
                one.text,
                uri=one.uri or source,
                title=one.title,
                language=one.language,
                license=self._license or one.license,
                meta={**meta, "imported": origin},
            )
        made: dict[str, Any] = {"source": source, "tools": one.tools, "origin": {"imported": origin}, "meta": meta}
        if self._importer.kind == "preference":
            return records.preference(one.messages, chosen=one.chosen, rejected=one.rejected, margin=one.margin, **made)
        return records.conversation(one.messages, **made)

    def _quarantine(self, name: str, item: Found | Broken, error: BadRow) -> None:
        self._sink.quarantine(
            records.quarantined(
                name,
                byte_offset=item.byte_offset,
                line=item.line,
                cause=str(error),
                reason=error.reason,
                raw=_raw(item),
            )
        )


def _raw(item: Found | Broken) -> bytes:
    """The beginning of a row's bytes; of a row that has none, of columns, what it says as JSON."""
    if item.raw or isinstance(item, Broken):
        return item.raw
    text = json.dumps(plain(dict(item.row)), ensure_ascii=False)[: records.RAW_LIMIT]
    return text.encode("utf-8", errors="backslashreplace")
