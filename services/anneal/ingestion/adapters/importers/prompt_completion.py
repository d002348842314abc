"""Rows with a `prompt` and a `completion`: OpenAI's older fine-tuning form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.importers.base import Imported, conversation, text_of
from anneal.kit.records import RecordKind


class PromptCompletion:
    """Reads prompt and completion."""

    kind: RecordKind = "conversation"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether it has both fields."""
        return "prompt" in row and "completion" in row

    def read(self, row: Mapping[str, Any]) -> Iterator[Imported]:
        """One conversation of two turns.

        Raises:
            BadRow: a field is missing or of the wrong type.
        """
        yield conversation([("user", text_of(row, "prompt")), ("assistant", text_of(row, "completion"))])
