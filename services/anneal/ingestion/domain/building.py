"""Text put together block by block, so that the offset of every block is known while it is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from anneal.ingestion.domain.cleaning import clean


class TextBuilder:
    """Writes Markdown-like blocks and answers where each one begins.

    Prefixes nest: what is written inside `indented` gets its first prefix once and the other on every later line.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._rest = ""
        self._pending: str | None = None
        self._tight = False

    @property
    def length(self) -> int:
        """Characters written so far."""
        return self._length

    def text(self) -> str:
        """Return everything written so far."""
        return "".join(self._parts)

    def block(self, text: str) -> int:
        """Write one block after a blank line (or a line end where a tight gap was asked for); return its start.

        The start is behind any prefix. Blank blocks write nothing.
        """
        lines = clean(text).strip("\n").split("\n")
        lines = [line.rstrip() for line in lines]
        if not any(lines):
            return self._length
        if self._length:
            self._write("\n" if self._tight else "\n\n")
        self._tight = False
        first = self._rest if self._pending is None else self._pending
        self._pending = None
        self._write(first)
        start = self._length
        self._write(lines[0])
        for line in lines[1:]:
            self._write("\n" + (self._rest + line).rstrip())
        return start

    def tighten(self) -> None:
        """Let the next block follow on the next line, without a blank one."""
        self._tight = True

    @contextmanager
    def indented(self, first: str, rest: str) -> Iterator[None]:
        """Prefix what is written inside: its first line by `first`, the others by `rest`."""
        outer_rest, outer_pending = self._rest, self._pending
        lead = outer_rest if outer_pending is None else outer_pending
        self._pending, self._rest = lead + first, outer_rest + rest
        opened = self._length
        try:
            yield
        finally:
            wrote = self._length > opened
            self._rest = outer_rest
            self._pending = None if wrote else outer_pending

    def _write(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)
