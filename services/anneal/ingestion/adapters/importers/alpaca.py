"""Alpaca rows: `instruction`, `input` (may be empty), `output`, `system`, `history`.

The prompt is the instruction, then a line feed and the input where there is one, as in Stanford's Alpaca and in
LLaMA-Factory's data format; one of the two may be empty. `inputs` is read as `input`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.importers.base import BadRow, Imported, Turn, conversation, first_text, tools_of
from anneal.ingestion.adapters.media import check_columns
from anneal.ingestion.adapters.pairs import BESIDE, answer_of, opening, user
from anneal.kit.records import RecordKind

INPUTS = ("input", "inputs")


class Alpaca:
    """Reads Alpaca rows."""

    kind: RecordKind = "conversation"
    fields = frozenset({"instruction", "output", *INPUTS, *BESIDE}) - {"context"}

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether it has an instruction and an output."""
        return "instruction" in row and "output" in row

    def read(self, row: Mapping[str, Any]) -> Iterator[Imported]:
        """One conversation, earlier turns of `history` first.

        Raises:
            BadRow: a field is missing or of the wrong type.
        """
        check_columns(row)
        turns = [*alpaca_prompt(row), *answer_of(row, "output")[0]]
        yield conversation(turns, tools=tools_of(row))


def alpaca_prompt(row: Mapping[str, Any]) -> list[Turn]:
    """What stands before the answer of an Alpaca row.

    Raises:
        BadRow: it is of the wrong type, or asks nothing.
    """
    instruction, more = first_text(row, "instruction"), first_text(row, *INPUTS)
    if not instruction and not more:
        raise BadRow("empty_field", "the fields 'instruction' and 'input' are empty: the row asks nothing")
    return [*opening(row), user("\n".join(filter(None, (instruction, more))))]
