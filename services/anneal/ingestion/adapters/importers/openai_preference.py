"""OpenAI's preference rows: `input` with messages and tools, `preferred_output`, `non_preferred_output`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.importers.base import BadRow, Imported, parsed, preference, tools_of
from anneal.ingestion.adapters.media import check_columns
from anneal.ingestion.adapters.turns import read_turns
from anneal.kit.records import RecordKind

OUTPUTS = ("preferred_output", "non_preferred_output")


class OpenAIPreference:
    """Reads OpenAI's preference rows."""

    kind: RecordKind = "preference"
    fields = frozenset({"input", *OUTPUTS})

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether it has an input and both outputs."""
        return "input" in row and all(name in row for name in OUTPUTS)

    def read(self, row: Mapping[str, Any]) -> Iterator[Imported]:
        """One preference.

        Raises:
            BadRow: a message has the wrong shape.
        """
        check_columns(row)
        given = parsed(row, "input")
        if not isinstance(given, Mapping):
            raise BadRow("wrong_type", "the field 'input' is not an object with messages")
        prompt, more = read_turns(parsed(given, "messages"), "input.messages")
        wanted, unwanted = (read_turns(parsed(row, name), name)[0] for name in OUTPUTS)
        rest = {key: value for key, value in given.items() if key not in ("messages", "tools") and value is not None}
        yield preference(prompt, wanted, unwanted, tools=tools_of(given), meta={**more, **rest})
