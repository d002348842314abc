"""Alpaca rows: `instruction`, `input` (may be empty), `output`, `system`, `history`.

The prompt is the instruction, then a line feed and the input where there is one, as in Stanford's Alpaca and in
LLaMA-Factory's data format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.importers.base import BadRow, Imported, conversation, text_of
from anneal.kit.records import RecordKind


class Alpaca:
    """Reads Alpaca rows."""

    kind: RecordKind = "conversation"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether it has an instruction and an output."""
        return "instruction" in row and "output" in row

    def read(self, row: Mapping[str, Any]) -> Iterator[Imported]:
        """One conversation, earlier turns of `history` first.

        Raises:
            BadRow: a field is missing or of the wrong type.
        """
        system = text_of(row, "system", required=False)
        instruction, more = text_of(row, "instruction"), text_of(row, "input", required=False)
        prompt = f"{instruction}\n{more}" if more.strip() else instruction
        turns = [("system", system)] if system.strip() else []
        history = row.get("history") or []
        if not isinstance(history, list):
            raise BadRow("wrong_type", f"the field 'history' is {type(history).__name__}, not a list")
        for pair in history:
            if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(x, str) for x in pair):
                raise BadRow("wrong_type", "an entry of 'history' is not a pair of texts")
            turns += [("user", pair[0]), ("assistant", pair[1])]
        turns += [("user", prompt), ("assistant", text_of(row, "output"))]
        yield conversation(turns)
