"""Rows with a `question` and a `response`: as in OpenOrca."""

from __future__ import annotations

from anneal.ingestion.adapters.pairs import Pair


class QuestionResponse(Pair):
    """Reads question and response."""

    def __init__(self) -> None:
        super().__init__("question", "response", context="context")
