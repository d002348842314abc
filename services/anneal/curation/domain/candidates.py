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
from itertools import pairwise
from math import ceil, log
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.texts import bytes_of
from anneal.curation.domain.words import Ragged, word_table
from anneal.kit.sides import side_by_side

NEIGHBOURS = 32
# The share of pairs exactly at the threshold that may share no band, and the signature's most bins.
MAX_MISSED = 1e-4
MAX_HASHES = 128
MAX_BAND_ROWS = 8
# A filling is the rank of a bin in the order of another, in the upper byte, and the bin, in the lower.
_RANK = np.uint16(256)
_SEED = 42

HALF = np.uint64(32)

Pairs = NDArray[np.int64]
Members = tuple[NDArray[np.uint32], NDArray[np.int64]]


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

    def keys_of(self, shingles: Ragged) -> NDArray[np.uint32]:
        """One key per band and row, shape (bands, rows); rows that share a key are candidates. 0 without shingles.

        Of 32 bits: ten million rows share some 12,000 pairs of keys of a band by chance, which are told apart when
        they are verified.
        """
        from anneal.curation.domain.kernels import scan

        fillings = _fillings(self.count * self.rows)
        keys: NDArray[np.uint32] = scan.band_keys(shingles.values, shingles.offsets, fillings, self.count)[0]
        return keys


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pairs of rows that share a band.

    Attributes:
        codes: lower row << 32 | higher row, ascending and each once; shape (pairs,).
        bands: in how many of the bands each is a pair, shape (pairs,).
    """

    codes: NDArray[np.uint64]
    bands: NDArray[np.uint8]


def ends_of(codes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The lower and the higher row of each pair."""
    return (codes >> HALF).astype(np.int64), (codes & np.uint64(0xFFFFFFFF)).astype(np.int64)


def codes_of(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The codes of pairs, whichever row is named first."""
    lower, higher = np.minimum(left, right).astype(np.uint64), np.maximum(left, right).astype(np.uint64)
    return (lower << HALF) | higher


@dataclass(frozen=True, slots=True)
class Signatures:
    """What fuzzy comparison needs of many rows.

    Attributes:
        prints: 128 bits that are equal when the words are equal in their order, shape (rows, 2).
        keys: of each band and row, shape (bands, rows); each band's lie in one piece.
        checks: eight bits more of each key, shape (rows, bands).
        words: how many each row has, shape (rows,).
    """

    prints: NDArray[np.uint64]
    keys: NDArray[np.uint32]
    checks: NDArray[np.uint8]
    words: NDArray[np.int64]


def signatures(texts: pa.Array, ngram: int, bands: Bands) -> Signatures:
    """Sign each text of a `large_string` array in one pass over its bytes.

    Equal to `fingerprints_of(words)`, `bands.keys_of(ngrams_of(words, ngram, short_rows=True))` and `words.lengths` of
    `words_of(texts)`, of which nothing outlives its row here.
    """
    from anneal.curation.domain.kernels import scan

    fillings = _fillings(bands.count * bands.rows)
    return Signatures(*scan.sign(*bytes_of(texts), word_table(), ngram, fillings, bands.count))


def bucket_order(words: NDArray[Any], prints: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The order of rows in a bucket: by their number of words, the most first, then by fingerprint; shape (rows,).

    It follows from the words alone. Two rows of a bucket with as many words have the same order by chance, of 48 bits.
    """
    counted = np.minimum(words, 0xFFFF).astype(np.uint64)
    order: NDArray[np.uint64] = ((np.uint64(0xFFFF) - counted) << np.uint64(48)) | (prints >> np.uint64(16))
    return order


def distinct(*values: NDArray[Any]) -> NDArray[Any]:
    """Numbers ascending and each once. Of millions NumPy's `unique`, which hashes them, is ten times as slow."""
    together = np.sort(np.concatenate(values))
    return together[np.append(together[1:] != together[:-1], True)] if len(together) else together


def candidate_pairs(keys: Iterable[Members], order: NDArray[np.uint64]) -> Candidates:
    """The pairs to verify.

    A row costs 8 bytes beyond its order, and 16 more on the way; a pair 9, and 26 on the way. No row has more than
    `NEIGHBOURS` + 1 new pairs in a band.

    Args:
        keys: of one band after the other the keys, and the rows that have them.
        order: where each row stands in a bucket, shape (rows,): a bucket's pairs must not depend on where rows come
            from. Rows of equal order stand as they are numbered.
    """
    from anneal.curation.domain.kernels.pairs import in_buckets, sharing, tallied

    order = np.ascontiguousarray(order)

    def pairs_of(band: Members) -> NDArray[np.uint64]:
        members, bounds = sharing(*map(np.ascontiguousarray, band))
        for start, stop in pairwise(bounds.tolist()):
            members[start:stop].sort()
        found: NDArray[np.uint64] = in_buckets(members, order, NEIGHBOURS)
        found.sort()
        return found

    codes, bands = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.uint8)
    for found in side_by_side(pairs_of, keys, waiting=1):
        codes, bands = tallied(codes, bands, found)
    return Candidates(codes, bands)


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
