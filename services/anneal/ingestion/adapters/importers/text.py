"""Raw text: rows with a `text`, as documents; `uri` or `url`, `title`, `language` and `license` are read beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.importers.base import Imported, text_of
from anneal.kit.records import RecordKind

_BESIDE = ("title", "language", "license")


class Article:
    """Reads rows with the text of a document in one column."""

    kind: RecordKind = "document"

    def __init__(self, field: str, links: tuple[str, ...]) -> None:
        self._field, self._links = field, links
        self.fields = frozenset({field, *links, *_BESIDE})

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether it has a text."""
        return isinstance(row.get(self._field), str)

    def read(self, row: Mapping[str, Any]) -> Iterator[Imported]:
        """One document.

        Raises:
            BadRow: the text is missing or of the wrong type.
        """
        text = text_of(row, self._field)
        beside = {name: row[name] for name in (*_BESIDE, *self._links) if row.get(name) not in (None, "")}
        read = {name: value for name, value in beside.items() if isinstance(value, str)}
        link = next((name for name in self._links if name in read), "")
        used = {link, *_BESIDE} & read.keys()
        rest = {name: value for name, value in beside.items() if name not in used}
        title, language, license = (read.get(name, "") for name in _BESIDE)
        yield Imported(
            text=text, uri=read.get(link, ""), title=title, language=language, license=license, meta=rest or None
        )


class Text(Article):
    """Reads raw text."""

    def __init__(self) -> None:
        super().__init__("text", ("uri", "url"))
