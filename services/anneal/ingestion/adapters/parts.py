"""What a job has read so far, part by part in its scratch folder, so that a killed attempt is not done again.

A part holds what a fixed number of files gave; it appears whole, by one rename, or not at all. What is in which part
depends on the order of the files only, so a resumed job makes the same dataset as one that was never killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Outcome:
    """What some files gave.

    Attributes:
        rows: rows kept.
        quarantined: why the others gave none.
        files: how many were read.
        size_bytes: their size.
        warnings: what was left out of the rows or is uncertain, `what -> how often`.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    files: int = 0
    size_bytes: int = 0
    warnings: dict[str, int] = field(default_factory=dict)


class Parts:
    """The parts of one job, numbered from 0 without gaps."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.count = sum(1 for _ in folder.glob("*.json"))

    def append(self, outcome: Outcome) -> None:
        """Keep the next part."""
        target = self._path(self.count)
        fresh = target.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(asdict(outcome), file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
        self.count += 1

    def __iter__(self) -> Iterator[Outcome]:
        for number in range(self.count):
            yield Outcome(**json.loads(self._path(number).read_text(encoding="utf-8")))

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.json"
