"""Articles: rows with a `content` and where it is from (`link` or `url`, a `title` or an author), as documents.

They often stand as one list inside an object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anneal.ingestion.adapters.importers.text import Article

_ORIGINS = ("link", "url", "title", "author", "author_full_name", "author_id", "published", "publish_date")


class Articles(Article):
    """Reads articles."""

    def __init__(self) -> None:
        super().__init__("content", ("link", "url", "uri"))

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether it has a content and an origin, and is no message of a conversation."""
        has_origin = any(row.get(name) for name in _ORIGINS)
        return super().recognises(row) and has_origin and not row.keys() & {"role", "from", "text"}
