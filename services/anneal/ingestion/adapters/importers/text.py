"""Raw text: rows with a `text`, as documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.importers.base import Imported, text_of
from anneal.kit.records import RecordKind


class Text:
    """Reads raw text."""

    kind: RecordKind = "document"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether it has a text."""
        return isinstance(row.get("text"), str)

    def read(self, row: Mapping[str, Any]) -> Iterator[Imported]:
        """One document.

        Raises:
            BadRow: the text is missing or of the wrong type.
        """
        meta = {key: row[key] for key in ("url", "uri", "title") if isinstance(row.get(key), str)}
        yield Imported(text=text_of(row, "text"), meta=meta or None)
