"""The encoder that needs no model: words and the character n-grams within them, hashed into a fixed number of buckets.

The hashing trick with signs: Weinberger et al. 2009, arXiv:0902.2206. Character n-grams within words: Bojanowski et
al. 2017, arXiv:1607.04606. Term counts are damped, 1 + ln(count), as in Manning, Raghavan and Schuetze 2008,
"Introduction to Information Retrieval", section 6.4.1. Deviation: no weights from the data (no idf), so that the
vector of a text is the same in every dataset; instead each n-gram weighs less than its word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from anneal.curation.domain.encoders import normalised

VERSION = 1
"""Part of the key: another number, other vectors."""
NGRAMS = (3, 4, 5)
NGRAM_WEIGHT = 0.5
# Texts are looked at in pieces of this size; counts of a longer text are damped piece by piece.
_PIECE_CHARACTERS = 1 << 19
_CHUNK_CHARACTERS = 1 << 20

U64 = NDArray[np.uint64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_OPENS, _CLOSES = np.uint64(0xD6E8FEB86659FD93), np.uint64(0xA0761D6478BD642F)
_FEATURE_BITS = np.uint64(40)


@dataclass(frozen=True, slots=True)
class HashingEncoder:
    """Signed hashing of words and their n-grams; a word is a run of letters and digits, or of other marks.

    Attributes:
        dimension: buckets.
    """

    dimension: int = 512

    @property
    def name(self) -> str:
        """For people."""
        return f"hashing-{self.dimension}"

    @property
    def key(self) -> str:
        """The rule's version and the dimension."""
        return f"hashing:{VERSION}:{self.dimension}"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length, shape (texts, dimension); zeros for a text of white space only."""
        sums = np.zeros((len(texts), self.dimension), dtype=np.float64)
        for rows, pieces in _chunks(texts):
            self._add(sums, rows, pieces)
        return normalised(sums.astype(np.float32))

    def _add(self, sums: NDArray[np.float64], rows: list[int], pieces: list[str]) -> None:
        points = np.frombuffer("".join(pieces).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        owner = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
        kinds = _kinds()[points]
        changes = np.ones(len(points) + 1, dtype=bool)
        changes[1:-1] = (kinds[1:] != kinds[:-1]) | (owner[1:] != owner[:-1])
        edges = np.flatnonzero(changes)
        is_word = kinds[edges[:-1]] > 0
        starts, ends = edges[:-1][is_word], edges[1:][is_word]
        mixed = _mixed(points.astype(np.uint64) + _GOLDEN)
        found = [(owner[starts], _word_hashes(mixed, starts, ends), 1.0)]
        is_letter = kinds == 1
        for n in NGRAMS:
            places, hashes = _ngram_hashes(mixed, is_letter, changes, n)
            found.append((owner[places], hashes, NGRAM_WEIGHT))
        width = self.dimension
        for owners, hashes, weight in found:
            piece, feature, count = _counted(owners, hashes)
            signs = np.where(feature & np.uint64(1), weight, -weight)
            cells = piece * width + ((feature >> np.uint64(1)) % np.uint64(width)).astype(np.int64)
            added = np.bincount(cells, weights=signs * (1 + np.log(count)), minlength=len(pieces) * width)
            np.add.at(sums, rows, added.reshape(len(pieces), width))


def _chunks(texts: Sequence[str]) -> Iterator[tuple[list[int], list[str]]]:
    """The texts in pieces, about a chunk of characters at a time: the row of each piece, and the pieces."""
    rows: list[int] = []
    pieces: list[str] = []
    held = 0
    for row, text in enumerate(texts):
        for first in range(0, len(text), _PIECE_CHARACTERS):
            piece = normalize("NFKC", text[first : first + _PIECE_CHARACTERS]).lower()
            rows.append(row)
            pieces.append(piece)
            held += len(piece)
            if held >= _CHUNK_CHARACTERS:
                yield rows, pieces
                rows, pieces, held = [], [], 0
    if pieces:
        yield rows, pieces


def _word_hashes(mixed: U64, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> U64:
    """One hash per word: of its characters and their places."""
    if not len(starts):
        return np.zeros(0, dtype=np.uint64)
    lengths = ends - starts
    firsts = np.cumsum(lengths) - lengths
    within = np.arange(int(lengths.sum())) - np.repeat(firsts, lengths)
    placed = _mixed(mixed[np.repeat(starts, lengths) + within] + within.astype(np.uint64) * _MIX_1)
    return _mixed(np.add.reduceat(placed, firsts) ^ _GOLDEN)


def _ngram_hashes(
    mixed: U64, is_letter: NDArray[np.bool_], changes: NDArray[np.bool_], n: int
) -> tuple[NDArray[np.int64], U64]:
    """Where n-grams of letters and digits within one word start, and their hashes; those at its edges differ."""
    size = max(len(mixed) - n + 1, 0)
    whole = is_letter[:size].copy()
    for j in range(1, n):
        whole &= ~changes[j : j + size]
    places = np.flatnonzero(whole)
    total = np.zeros(len(places), dtype=np.uint64)
    for j in range(n):
        total = (total + mixed[places + j]) * _GOLDEN
    total += np.where(changes[places], _OPENS, np.uint64(0)) + np.where(changes[places + n], _CLOSES, np.uint64(0))
    return places, _mixed(total)


def _counted(owners: NDArray[np.int64], hashes: U64) -> tuple[NDArray[np.int64], U64, NDArray[np.int64]]:
    """Each different feature of each piece, 40 bits of it, and how often it is there."""
    keys = np.sort((owners.astype(np.uint64) << _FEATURE_BITS) | (hashes >> (np.uint64(64) - _FEATURE_BITS)))
    opens = np.ones(len(keys), dtype=bool)
    opens[1:] = keys[1:] != keys[:-1]
    first = np.flatnonzero(opens)
    counts = np.diff(np.append(first, len(keys)))
    unique = keys[first]
    return (
        (unique >> _FEATURE_BITS).astype(np.int64),
        unique & ((np.uint64(1) << _FEATURE_BITS) - np.uint64(1)),
        counts,
    )


def _mixed(values: U64) -> U64:
    """SplitMix64's finaliser: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


@cache
def _kinds() -> NDArray[np.uint8]:
    """For every code point: 0 white space, 1 letter or digit, 2 other mark."""
    everything = [chr(point) for point in range(0x110000)]
    table = np.where([one.isalnum() or one == "_" for one in everything], 1, 2).astype(np.uint8)
    table[[one.isspace() for one in everything]] = 0
    table.setflags(write=False)
    return table
