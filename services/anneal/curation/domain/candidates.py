"""Candidate pairs of near-duplicates by MinHash and locality-sensitive hashing.

MinHash: Broder, "On the resemblance and containment of documents", 1997, by one permutation: a shingle falls into one
bin and the least of each bin counts (Li, Owen, Zhang, "One permutation hashing", NeurIPS 2012, arXiv:1208.1259). An
empty bin takes what the first filled one in an order of its own has: the optimal densification of Shrivastava (ICML
2017, arXiv:1703.04664), which keeps the chance that two rows agree in a bin at their Jaccard similarity. Bands:
Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", section 3.4: a pair of similarity s shares one of b bands of
r bins with probability 1 - (1 - s^r)^b.

Differs from these: a band shared by many rows does not make all their pairs. Such rows stand in one order, and each is
compared with the first of them and with the `NEIGHBOURS` after it, so the work is bounded by rows, not by their square.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from math import ceil, log

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.texts import bytes_of
from anneal.curation.domain.words import Ragged, word_table

NEIGHBOURS = 32
# The share of pairs exactly at the threshold that may share no band, and the signature's most bins.
MAX_MISSED = 1e-4
MAX_HASHES = 128
MAX_BAND_ROWS = 8
# A filling is the rank of a bin in the order of another, in the upper byte, and the bin, in the lower.
_RANK = np.uint16(256)
_SEED = 42

Pairs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bands:
    """How a signature is cut: `count` bands of `rows` bins."""

    count: int
    rows: int

    @classmethod
    def for_threshold(cls, threshold: float) -> Bands:
        """The widest bands that miss at most `MAX_MISSED` of the pairs at the threshold within `MAX_HASHES` bins.

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
        """One key per band and row, shape (bands, rows); rows that share a key are candidates. 0 without shingles."""
        from anneal.curation.domain.kernels import scan

        fillings = _fillings(self.count * self.rows)
        keys: NDArray[np.uint64] = scan.band_keys(shingles.values, shingles.offsets, fillings, self.count)
        return keys


@dataclass(frozen=True, slots=True)
class Signatures:
    """What fuzzy comparison needs of many rows.

    Attributes:
        prints: 128 bits that are equal when the words are equal in their order, shape (rows, 2).
        keys: of each band and row, shape (bands, rows); each band's lie in one piece.
        words: how many each row has, shape (rows,).
    """

    prints: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    words: NDArray[np.int64]


def signatures(texts: pa.Array, ngram: int, bands: Bands) -> Signatures:
    """Sign each text of a `large_string` array in one pass over its bytes.

    Equal to `fingerprints_of(words)`, `bands.keys_of(ngrams_of(words, ngram, short_rows=True))` and `words.lengths` of
    `words_of(texts)`, of which nothing outlives its row here.
    """
    from anneal.curation.domain.kernels import scan

    fillings = _fillings(bands.count * bands.rows)
    return Signatures(*scan.sign(*bytes_of(texts), word_table(), ngram, fillings, bands.count))


def candidate_pairs(keys: Iterable[NDArray[np.uint64]], ranks: NDArray[np.int64]) -> Pairs:
    """The pairs to verify, shape (pairs, 2), each once, the row of lower rank first; ordered by rank.

    A row costs 20 bytes beyond its rank and one band's key, and 48 more while it shares a key in the band; a pair costs
    16 bytes, and 40 on the way. So 10 million rows with 2 pairs each stay within 1.5 GB. No row has more than
    `NEIGHBOURS` + 1 new pairs in a band.

    Args:
        keys: the keys of one band after the other, each of shape (rows,).
        ranks: an order of the rows, a permutation of 0 to rows - 1; fewer than 2^32.
    """
    from anneal.curation.domain.kernels.pairs import in_buckets, sharing, united

    by_rank = np.empty(len(ranks), dtype=np.int64)
    by_rank[ranks] = np.arange(len(ranks))
    found = np.zeros(0, dtype=np.uint64)
    for band in keys:
        members = sharing(np.ascontiguousarray(band), by_rank)
        shared = band[by_rank[members]]
        order = np.argsort(shared)
        new = in_buckets(shared[order], members[order], NEIGHBOURS)
        new.sort()
        found = united(found, new)
    pairs = np.empty((len(found), 2), dtype=np.int64)
    pairs[:, 0] = by_rank[(found >> np.uint64(32)).astype(np.int64)]
    pairs[:, 1] = by_rank[(found & np.uint64(0xFFFFFFFF)).astype(np.int64)]
    return pairs


@cache
def _fillings(bins: int) -> NDArray[np.uint16]:
    """Where bins borrow, shape (bins, bins): `[b, e]` says how soon the empty bin e asks b; the least of them lends."""
    order = np.argsort(np.random.RandomState(_SEED).random_sample((bins, bins)), axis=0, kind="stable")
    fillings = np.empty((bins, bins), dtype=np.uint16)
    np.put_along_axis(fillings, order, np.arange(1, bins + 1, dtype=np.uint16)[:, None] * _RANK, axis=0)
    # A filled bin asks itself first.
    np.fill_diagonal(fillings, 0)
    fillings += np.arange(bins, dtype=np.uint16)[:, None]
    fillings.setflags(write=False)
    return fillings
