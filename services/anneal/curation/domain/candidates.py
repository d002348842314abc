"""Candidate pairs of near-duplicates by MinHash and locality-sensitive hashing.

MinHash: Broder, "On the resemblance and containment of documents", 1997 (signatures by rensa's R-MinHash); bands:
Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", section 3.4. A pair of Jaccard similarity s shares one of b
bands of r rows with probability 1 - (1 - s^r)^b.

Differs from both: a band shared by many rows does not make all their pairs. Such rows stand in one order, and each is
compared with the first of them and with the `NEIGHBOURS` after it, so the work is bounded by rows, not by their square.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from anneal.curation.domain.words import Ragged

NEIGHBOURS = 32
# The share of pairs exactly at the threshold that may share no band, and the signature's most hashes.
MAX_MISSED = 1e-4
MAX_HASHES = 128
MAX_BAND_ROWS = 8
_SEED = 42
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

Pairs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bands:
    """How a signature is cut: `count` bands of `rows` hashes."""

    count: int
    rows: int

    @classmethod
    def for_threshold(cls, threshold: float) -> Bands:
        """The widest bands that miss at most `MAX_MISSED` of the pairs at the threshold within `MAX_HASHES` hashes.

        Raises:
            ValueError: the threshold is too low for any.
        """
        for rows in range(MAX_BAND_ROWS, 0, -1):
            shared = min(threshold**rows, 1 - 1e-9)
            count = ceil(log(MAX_MISSED) / log(1 - shared))
            if count * rows <= MAX_HASHES:
                return cls(count, rows)
        raise ValueError(f"a threshold of {threshold} needs more than {MAX_HASHES} hashes")

    def keys_of(self, shingles: Ragged) -> NDArray[np.uint64]:
        """One key per row and band, shape (rows, bands); rows that share a key are candidates."""
        hashes = self.count * self.rows
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            np.ascontiguousarray(shingles.values), shingles.offsets.astype(np.uint64), hashes, _SEED
        )
        signatures = np.array(matrix.to_rows(), dtype=np.uint64).reshape(-1, self.count, self.rows)
        keys = np.zeros(signatures.shape[:2], dtype=np.uint64)
        for place in range(self.rows):
            keys = (keys ^ signatures[:, :, place]) * _GOLDEN
            keys ^= keys >> np.uint64(29)
        return keys


def candidate_pairs(keys: NDArray[np.uint64], ranks: NDArray[np.int64]) -> Pairs:
    """The pairs to verify, shape (pairs, 2), each once, the row of lower rank first.

    Args:
        keys: one key per row and band, shape (rows, bands).
        ranks: an order of the rows, shape (rows,); no two are equal.
    """
    rows = len(ranks)
    by_rank = np.argsort(ranks)
    found = np.zeros(0, dtype=np.int64)
    for band in range(keys.shape[1]):
        # A stable sort keeps rows of one bucket in the order of their ranks.
        order = by_rank[np.argsort(keys[by_rank, band], kind="stable")]
        packed = _pairs_in_band(keys[order, band], order, rows)
        found = np.union1d(found, packed)
    return np.stack((found // max(rows, 1), found % max(rows, 1)), axis=1)


def _pairs_in_band(keys: NDArray[np.uint64], order: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    opens = np.ones(len(keys), dtype=bool)
    opens[1:] = keys[1:] != keys[:-1]
    starts = np.flatnonzero(opens)
    first_of = np.repeat(starts, np.diff(np.append(starts, len(keys))))
    places = np.arange(len(keys))
    shared = first_of < places
    pairs = [order[first_of[shared]] * rows + order[places[shared]]]
    for step in range(1, NEIGHBOURS + 1):
        near = places[step:][first_of[step:] <= places[:-step]]
        if not len(near):
            break
        pairs.append(order[near - step] * rows + order[near])
    return np.unique(np.concatenate(pairs))
