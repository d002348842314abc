"""OpenAI fine-tuning rows: `messages` with roles, `tools`, and a `weight` on turns that are not to be learnt.

Calls of tools stand beside or instead of a turn's text. `messages` and `tools` may be JSON text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.importers.base import BadRow, Imported, Turn, conversation, is_list, parsed, tools_of
from anneal.ingestion.adapters.media import check_columns
from anneal.ingestion.adapters.pairs import SYSTEM_FIELDS, opening
from anneal.ingestion.adapters.turns import read_turns
from anneal.kit.records import RecordKind


class Messages:
    """Reads rows whose conversation is a list of messages in one column."""

    kind: RecordKind = "conversation"

    def __init__(self, field: str) -> None:
        self.field = field
        self.fields = frozenset({field, "tools", "functions", *SYSTEM_FIELDS})

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether it has the list."""
        return is_list(row, self.field)

    def read(self, row: Mapping[str, Any]) -> Iterator[Imported]:
        """One conversation.

        Raises:
            BadRow: a message has the wrong shape.
        """
        check_columns(row)
        if row.get("label") is False:
            cause = "the row's label says that its answer is unwanted; the format `kto` keeps it as a preference"
            raise BadRow("unwanted_answer", cause)
        turns, more = turns_of(row, self.field)
        yield conversation(turns, tools=tools_of(row), meta=more)


class OpenAI(Messages):
    """Reads OpenAI's message rows."""

    def __init__(self) -> None:
        super().__init__("messages")


def turns_of(row: Mapping[str, Any], field: str) -> tuple[list[Turn], dict[str, Any]]:
    """The messages of a row, behind a system text beside them; and what of them no message holds.

    Raises:
        BadRow: a message has the wrong shape, or there are two system texts.
    """
    turns, more = read_turns(parsed(row, field), field)
    system = opening({name: row.get(name) for name in SYSTEM_FIELDS})
    if system and turns[0]["role"] == "system":
        raise BadRow("two_system_turns", "the row has a system text beside messages that begin with one")
    return [*system, *turns], more
