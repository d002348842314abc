"""Novelty while generating: the same text again, or most of its word n-grams again, stays out."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass, field

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Case-folded words of the NFKC text: how two texts are compared."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


@dataclass(frozen=True, slots=True, kw_only=True)
class Familiar:
    """Why a text is not new: the row it repeats, or the share of its n-grams seen before."""

    duplicate_of: str | None
    overlap: float


@dataclass(slots=True, kw_only=True)
class NoveltyIndex:
    """What exists already.

    Attributes:
        max_overlap: highest share of a text's n-grams that may have been seen; 1 checks for equal text only.
        ngram: words per n-gram; a shorter text is compared as a whole.
    """

    max_overlap: float
    ngram: int
    _rows: dict[bytes, str] = field(default_factory=dict)
    _grams: set[bytes] = field(default_factory=set)

    def familiar(self, text: str) -> Familiar | None:
        """Why the text is not new, or None where it is."""
        found = words(text)
        if (row := self._rows.get(_hash(found))) is not None:
            return Familiar(duplicate_of=row, overlap=1.0)
        overlap = self._overlap(found)
        return Familiar(duplicate_of=None, overlap=overlap) if overlap > self.max_overlap else None

    def add(self, text: str, row: str) -> None:
        """Remember a text under the id of its row."""
        found = words(text)
        self._rows.setdefault(_hash(found), row)
        if self.max_overlap < 1:
            self._grams.update(self._hashes(found))

    def _overlap(self, found: list[str]) -> float:
        if self.max_overlap >= 1 or len(found) < self.ngram:
            return 0.0
        grams = self._hashes(found)
        return len(grams & self._grams) / len(grams)

    def _hashes(self, found: list[str]) -> set[bytes]:
        return {_hash(found[i : i + self.ngram]) for i in range(len(found) - self.ngram + 1)}


def _hash(found: list[str]) -> bytes:
    return hashlib.blake2b("\0".join(found).encode(), digest_size=12).digest()
