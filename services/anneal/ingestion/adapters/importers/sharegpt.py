"""ShareGPT rows: `conversations` of `{from, value}`, with `system` and `tools` beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.importers.base import BadRow, Imported, conversation, json_text, text_of
from anneal.ingestion.adapters.rows import loads
from anneal.kit.records import RecordKind

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
    "system": "system",
}


class ShareGPT:
    """Reads ShareGPT rows."""

    kind: RecordKind = "conversation"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether it has a list of conversations."""
        return isinstance(row.get("conversations"), list)

    def read(self, row: Mapping[str, Any]) -> Iterator[Imported]:
        """One conversation.

        Raises:
            BadRow: an entry has the wrong shape or an unknown speaker.
        """
        entries = row.get("conversations")
        if not isinstance(entries, list) or not entries:
            raise BadRow("wrong_type", "the field 'conversations' is not a list with entries")
        system = text_of(row, "system", required=False)
        turns = [("system", system)] if system.strip() else []
        for entry in entries:
            if not isinstance(entry, Mapping):
                raise BadRow("wrong_type", "an entry of 'conversations' is not an object")
            speaker = text_of(entry, "from")
            if speaker not in _ROLES:
                raise BadRow("unknown_role", f"the speaker {speaker!r} is not known")
            turns.append((_ROLES[speaker], text_of(entry, "value")))
        yield conversation(turns, tools=_tools(row.get("tools")))


def _tools(value: Any) -> str | None:
    """A list of tools, or the JSON text of one."""
    if isinstance(value, str) and value.strip():
        try:
            value = loads(value)
        except (ValueError, RecursionError) as error:
            raise BadRow("wrong_type", f"the field 'tools' is not JSON: {error}") from error
    if not value:
        return None
    if not isinstance(value, list):
        raise BadRow("wrong_type", "the field 'tools' is not a list")
    return json_text(value, "the field 'tools'")
