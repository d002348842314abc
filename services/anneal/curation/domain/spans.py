"""How much of each text its word n-grams repeat, for many texts at once.

N-grams are compared by 64-bit hashes of their bytes: differences of a polynomial's prefix sums modulo 2**64 (Karp and
Rabin 1987) over random values per byte, mixed. Not keyed: it serves equality within a row, not signatures.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.texts import bytes_of

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
_BASE = 0x9E3779B97F4A7C15
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
        powers, values = _powers(len(octets)), _values()[octets]
        self._prefixes: U64 = np.concatenate((np.zeros(1, dtype=np.uint64), np.cumsum(values * powers)))

    @property
    def _rows(self) -> I64:
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def only(self, kept: NDArray[np.bool_]) -> Spans:
        """The words of the rows where `kept` is true, shape (rows,)."""
        if kept.all():
            return self
        chosen = Spans.__new__(Spans)
        words = np.repeat(kept, self.counts)
        chosen.starts, chosen.ends = self.starts[words], self.ends[words]
        chosen.characters, chosen.counts = self.characters[words], self.counts[kept]
        chosen._prefixes = self._prefixes
        return chosen

    def top_shares(self, n: int) -> NDArray[np.float64]:
        """The greatest share of a row's characters that one of its n-grams has, if it occurs twice; shape (rows,)."""
        firsts, order, opens = self._grouped(n)
        shares = np.zeros(len(self.counts))
        if not len(order):
            return shares
        sizes = np.diff(np.flatnonzero(opens), append=len(order))
        several = sizes > 1
        samples = firsts[order[opens][several]]
        places = np.concatenate(([0], np.cumsum(self.characters)))
        characters = (places[samples + n] - places[samples]) * sizes[several]
        np.maximum.at(shares, self._rows[samples], characters.astype(np.float64))
        return np.minimum(shares / np.maximum(self._totals(), 1), 1.0)

    def duplicate_shares(self, n: int) -> NDArray[np.float64]:
        """The share of a row's characters in n-grams that stood before in it; overlaps count once; shape (rows,)."""
        firsts, order, opens = self._grouped(n)
        repeated = firsts[order[~opens]]
        depth = np.zeros(len(self.starts) + n + 1, dtype=np.int64)
        np.add.at(depth, repeated, 1)
        np.add.at(depth, repeated + n, -1)
        covered = np.cumsum(depth)[: len(self.starts)] > 0
        inside = np.bincount(self._rows, weights=self.characters * covered, minlength=len(self.counts))
        return inside / np.maximum(self._totals(), 1)

    def _totals(self) -> NDArray[np.float64]:
        return np.bincount(self._rows, weights=self.characters, minlength=len(self.counts))

    def _grouped(self, n: int) -> tuple[I64, I64, NDArray[np.bool_]]:
        """First words of all n-grams, their order with equal ones of a row together, and which of them is new."""
        rows = self._rows
        firsts = np.arange(max(len(rows) - n + 1, 0))
        firsts = firsts[rows[firsts] == rows[firsts + n - 1]]
        starts, ends = self.starts[firsts], self.ends[firsts + n - 1]
        hashes = (self._prefixes[ends] - self._prefixes[starts]) * _inverses(len(self._prefixes))[starts]
        hashes ^= rows[firsts].astype(np.uint64) * np.uint64(_BASE)
        hashes = (hashes ^ (hashes >> np.uint64(31))) * _MIX
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        opens = np.ones(len(order), dtype=bool)
        opens[1:] = ordered[1:] != ordered[:-1]
        return firsts, order, opens


@cache
def _values() -> U64:
    """A random number for each byte; drawn once and for all, so that it is the same everywhere."""
    return np.random.default_rng(2112_11446).integers(1, 2**63, size=256, dtype=np.uint64)


def _powers(count: int) -> U64:
    return _geometric(_BASE, count)


def _inverses(count: int) -> U64:
    return _geometric(pow(_BASE, -1, 2**64), count)


def _geometric(base: int, count: int) -> U64:
    """1, base, base**2 ... modulo 2**64; shape (count,)."""
    factors = np.full(count, base, dtype=np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)
