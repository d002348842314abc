"""How much of each text its word n-grams repeat, for many texts at once.

N-grams are compared by 64-bit hashes of their bytes: differences of a polynomial's prefix sums modulo 2**64 (Karp and
Rabin 1987) over random values per byte, mixed. Not keyed: it serves equality within a row, not signatures.
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.texts import bytes_of

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
_BASE = 0x9E3779B97F4A7C15
# Powers for this many bytes are kept.
_CHUNK = 1 << 22
_MIX = np.uint64(0xBF58476D1CE4E5B9)


class Spans:
    """The words of many texts, which single spaces part: word w is `starts[w]` to `ends[w]` of the bytes."""

    def __init__(self, texts: pa.Array) -> None:
        """Find the words.

        Args:
            texts: normalised, `large_string`.
        """
        octets, offsets = bytes_of(texts)
        is_space = octets == ord(" ")
        opens, closes = ~is_space, ~is_space
        edges = offsets[:-1][offsets[:-1] < offsets[1:]]
        opens[1:] &= is_space[:-1]
        opens[edges] = ~is_space[edges]
        closes[:-1] &= is_space[1:]
        closes[offsets[1:][offsets[:-1] < offsets[1:]] - 1] = True
        self.starts: I64 = np.flatnonzero(opens)
        self.ends: I64 = np.flatnonzero(closes) + 1
        self.counts: I64 = np.diff(np.searchsorted(self.starts, offsets))
        leads = np.concatenate(([0], np.cumsum((octets & 0xC0) != 0x80)))
        self.characters: I64 = leads[self.ends] - leads[self.starts]
        hashed = _values()[octets] * _powers(_BASE, max(len(octets), _CHUNK))[: len(octets)]
        self._prefixes: U64 = np.concatenate((np.zeros(1, dtype=np.uint64), np.cumsum(hashed)))
        self._inverses: U64 = _powers(pow(_BASE, -1, 2**64), max(len(octets), _CHUNK))[self.starts]

    def only(self, kept: NDArray[np.bool_]) -> Spans:
        """The words of the rows where `kept` is true, shape (rows,)."""
        if kept.all():
            return self
        chosen = Spans.__new__(Spans)
        words = np.repeat(kept, self.counts)
        chosen.starts, chosen.ends = self.starts[words], self.ends[words]
        chosen.characters, chosen.counts = self.characters[words], self.counts[kept]
        chosen._prefixes, chosen._inverses = self._prefixes, self._inverses[words]
        return chosen

    def shares(self, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What shares of a row's characters repeat in n-grams: (rows,) each, 0 where a row has no n-gram twice.

        Returns:
            That of the one n-gram that has the greatest share, overlaps counted twice but at most 1, and that of all
            n-grams that stood before in the row, overlaps counted once.
        """
        rows = np.repeat(np.arange(len(self.counts)), self.counts)
        totals = np.maximum(np.bincount(rows, weights=self.characters, minlength=len(self.counts)), 1)
        firsts, order, sizes = self._several(rows, n)
        groups = np.cumsum(sizes) - sizes
        samples = firsts[order[groups]] if len(order) else order
        places = np.concatenate(([0], np.cumsum(self.characters)))
        top = np.zeros(len(self.counts))
        np.maximum.at(top, rows[samples], ((places[samples + n] - places[samples]) * sizes).astype(np.float64))
        again = np.ones(len(order), dtype=bool)
        if len(order):
            again = order != np.repeat(np.minimum.reduceat(order, groups), sizes)
        covered = self._covered(firsts[order[again]], n, len(rows))
        inside = np.bincount(rows, weights=self.characters * covered, minlength=len(self.counts))
        return np.minimum(top / totals, 1.0), inside / totals

    @staticmethod
    def _covered(firsts: I64, n: int, words: int) -> NDArray[np.bool_]:
        """Which words are in one of the n-grams that begin at `firsts`, shape (words,)."""
        begins = np.bincount(firsts, minlength=words + n)
        depth = np.cumsum(begins)
        depth[n:] -= depth[:-n].copy()
        return depth[:words] > 0

    def _several(self, rows: I64, n: int) -> tuple[I64, I64, I64]:
        """First words of all n-grams; places among them of those that occur twice, equal ones together; group sizes."""
        firsts = np.arange(max(len(rows) - n + 1, 0))
        firsts = firsts[rows[firsts] == rows[firsts + n - 1]]
        hashes = (self._prefixes[self.ends[firsts + n - 1]] - self._prefixes[self.starts[firsts]]) * self._inverses[
            firsts
        ]
        hashes ^= rows[firsts].astype(np.uint64) * np.uint64(_BASE)
        hashes = (hashes ^ (hashes >> np.uint64(31))) * _MIX
        order = np.argsort(hashes)
        opens = np.flatnonzero(np.diff(hashes[order], prepend=~hashes[order[:1]]))
        sizes = np.diff(opens, append=len(order))
        return firsts, order[np.repeat(sizes > 1, sizes)], sizes[sizes > 1]


@cache
def _values() -> U64:
    """A random number for each byte; drawn once and for all, so that it is the same everywhere."""
    return np.random.default_rng(2112_11446).integers(1, 2**63, size=256, dtype=np.uint64)


@lru_cache(maxsize=2)
def _powers(base: int, count: int) -> U64:
    """1, base, base**2 ... modulo 2**64; shape (count,)."""
    factors = np.full(count, base, dtype=np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)
