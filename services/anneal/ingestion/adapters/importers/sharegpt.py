"""ShareGPT rows: `conversations` of `{from, value}` or `{role, content}`, with `system` and `tools` beside them.

An entry of `function_call` is a call of a tool, and belongs to the assistant's text before it where there is one; one
of `observation` is its result.
"""

from __future__ import annotations

from anneal.ingestion.adapters.importers.openai import Messages


class ShareGPT(Messages):
    """Reads ShareGPT rows."""

    def __init__(self) -> None:
        super().__init__("conversations")
