"""Rows with a `prompt` and a `response`: as many sets of single answers have them."""

from __future__ import annotations

from anneal.ingestion.adapters.pairs import Pair


class PromptResponse(Pair):
    """Reads prompt and response."""

    def __init__(self) -> None:
        super().__init__("prompt", "response")
