"""ShareGPT rows: `conversations` of `{from, value}`, with `system` and `tools` beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.importers.base import BadRow, Imported, conversation, text_of
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
        tools = row.get("tools")
        if isinstance(tools, list):
            tools = json.dumps(tools, ensure_ascii=False)
        yield conversation(turns, tools=tools if isinstance(tools, str) and tools.strip() else None)
