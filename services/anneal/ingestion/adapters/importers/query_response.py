"""Rows with a `query` and a `response`: ms-swift's form, with `system` and `history`."""

from __future__ import annotations

from anneal.ingestion.adapters.pairs import Pair


class QueryResponse(Pair):
    """Reads query and response."""

    def __init__(self) -> None:
        super().__init__("query", "response")
