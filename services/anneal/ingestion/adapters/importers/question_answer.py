"""Rows with a `question` and a `answer`: with a `context` also text-to-SQL."""

from __future__ import annotations

from anneal.ingestion.adapters.pairs import Pair


class QuestionAnswer(Pair):
    """Reads question and answer."""

    def __init__(self) -> None:
        super().__init__("question", "answer", context="context")
