"""The journal of a job's teacher calls: one JSON line per event, on disk before the call goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class FileJournal:
    """An append-only file. A line that a kill cut off is dropped when the file is opened again.

    Raises:
        ValueError: a line before the last one is damaged; nobody can tell then what was paid.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._recovered = self._recover()
        self._file = path.open("ab")

    def read(self) -> list[dict[str, Any]]:
        """The events that were there when the journal was opened."""
        return self._recovered

    def append(self, event: dict[str, Any]) -> None:
        """Return when the event is on disk."""
        self._file.write(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _recover(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        data = self._path.read_bytes()
        whole, _, torn = data.rpartition(b"\n")
        if torn:
            with self._path.open("r+b") as file:
                file.truncate(len(data) - len(torn))
        return [json.loads(line) for line in whole.split(b"\n") if line]
