"""Rows with a `prompt` and a `completion`: OpenAI's older fine-tuning form, and TRL's."""

from __future__ import annotations

from anneal.ingestion.adapters.pairs import Pair


class PromptCompletion(Pair):
    """Reads prompt and completion."""

    def __init__(self) -> None:
        super().__init__("prompt", "completion")
