"""Remembers how fast earlier jobs trained, so that a plan can say how long the next one takes."""

from __future__ import annotations

import json
import os
from pathlib import Path


class Speeds:
    """Tokens per second by base model and method, in one small file. What cannot be read counts as unknown."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, base_digest: str, method: str) -> float | None:
        """What the last job of this base and method reached, all workers together."""
        value = self._all().get(f"{base_digest} {method}")
        return float(value) if value else None

    def put(self, base_digest: str, method: str, tokens_per_s: float) -> None:
        """Remember what a job reached."""
        known = {**self._all(), f"{base_digest} {method}": tokens_per_s}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(known, sort_keys=True))
        fresh.replace(self._path)

    def _all(self) -> dict[str, float]:
        try:
            known = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}
