"""Answers of judges as they come, in a file that survives the job's process: what was paid is not paid again."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from pathlib import Path

from anneal.curation.domain.judges import Reply


class AnswerLog:
    """A file of JSON lines, one answer each; only where each stands is in memory, about 150 bytes per answer.

    From the first line on that is damaged or cut off, as by a kill, the file is cut: those questions are asked again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[bytes, int] = {}
        self._lock = threading.Lock()
        if path.exists():
            self._load()

    def _load(self) -> None:
        with self._path.open("r+b") as file:
            place = 0
            for line in file:
                try:
                    record = json.loads(line if line.endswith(b"\n") else b"")
                    key, _ = _short(str(record["key"])), Reply(**record["reply"])
                except (ValueError, KeyError, TypeError):
                    break
                self._places[key] = place
                place += len(line)
            file.truncate(place)

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str) -> Reply | None:
        """The answer to a question, if it was paid."""
        place = self._places.get(_short(key))
        if place is None:
            return None
        with self._path.open("rb") as file:
            file.seek(place)
            return Reply(**json.loads(file.readline())["reply"])

    def add(self, key: str, reply: Reply) -> None:
        """Keep an answer; it is out of this process's hands when this returns."""
        line = json.dumps({"key": key, "reply": asdict(reply)}).encode() + b"\n"
        with self._lock, self._path.open("ab") as file:
            self._places[_short(key)] = file.tell()
            file.write(line)


def _short(key: str) -> bytes:
    return bytes.fromhex(key.removeprefix("sha256:"))[:16]
