"""Rows with a `instruction` and a `response`: as in OpenAssistant's and Databricks' tables."""

from __future__ import annotations

from anneal.ingestion.adapters.pairs import Pair


class InstructionResponse(Pair):
    """Reads instruction and response."""

    def __init__(self) -> None:
        super().__init__("instruction", "response", context="context")
