r"""Words and word n-grams of many texts as 64-bit hashes, without a Python object per word.

A word is a run of `\w` as Python's `re` has it, lower-cased one code point at a time (so a final sigma stays a sigma).
Words are hashed eight UTF-8 bytes at a time with the multiply-and-shift mixing of SplitMix64 (Steele, Lea, Flood:
"Fast splittable pseudorandom number generators", OOPSLA 2014); a word of more than 64 bytes is hashed by BLAKE2b.
The hash is not keyed: it serves equality of words among honest rows, not signatures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.texts import bytes_of

U64 = NDArray[np.uint64]

_CHUNK_BYTES = 1 << 22
_LANE_BYTES = 8
_LANES_MAX = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_LANE_MASKS = np.array([(1 << 8 * n) - 1 for n in range(_LANE_BYTES + 1)], dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class Ragged:
    """Many rows of hashes in one array.

    Attributes:
        values: the hashes of all rows, one after the other.
        offsets: row r is `values[offsets[r] : offsets[r + 1]]`; shape (rows + 1,).
    """

    values: U64
    offsets: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Hashes per row, shape (rows,)."""
        return np.diff(self.offsets)

    def row(self, r: int) -> U64:
        """The hashes of one row."""
        return self.values[self.offsets[r] : self.offsets[r + 1]]


def words_of(texts: pa.Array) -> Ragged:
    """The hashes of the lower-cased words of each text of a `large_string` array, in their order."""
    octets, offsets = bytes_of(pc.utf8_lower(texts))
    values: list[U64] = []
    counts: list[NDArray[np.int64]] = []
    first = 0
    while first < len(texts):
        fits = int(np.searchsorted(offsets, offsets[first] + _CHUNK_BYTES, side="right")) - 1
        last = min(max(fits, first + 1), len(texts))
        chunk = octets[offsets[first] : offsets[last]]
        hashes, per_row = _hashed(chunk, offsets[first : last + 1] - offsets[first])
        values.append(hashes)
        counts.append(per_row)
        first = last
    lengths = np.concatenate(counts) if counts else np.zeros(0, dtype=np.int64)
    return Ragged(
        values=np.concatenate(values) if values else np.zeros(0, dtype=np.uint64),
        offsets=np.concatenate(([0], np.cumsum(lengths))),
    )


def ngrams_of(words: Ragged, n: int, *, short_rows: bool) -> Ragged:
    """The hashes of each run of `n` words; a row with fewer words has one n-gram of all its words, or none.

    Args:
        words: the words of each row.
        n: words per n-gram, at least 1.
        short_rows: whether a row of 1 to n - 1 words counts as one n-gram.
    """
    lengths = words.lengths
    counts = np.maximum(lengths - n + 1, 0)
    runs = _runs(words.values, n)
    # A run is whole when it starts at least n words before its row's end.
    ends = np.repeat(words.offsets[1:], lengths)[: len(runs)]
    whole = np.arange(len(runs)) + n <= ends
    if not short_rows:
        return Ragged(runs[whole], np.concatenate(([0], np.cumsum(counts))))
    is_short = (lengths > 0) & (lengths < n)
    offsets = np.concatenate(([0], np.cumsum(counts + is_short)))
    values = np.empty(offsets[-1], dtype=np.uint64)
    from_short = np.zeros(len(values), dtype=bool)
    from_short[offsets[:-1][is_short]] = True
    values[~from_short] = runs[whole]
    values[from_short] = _short_runs(words, np.flatnonzero(is_short), n)
    return Ragged(values, offsets)


def fingerprints_of(words: Ragged) -> NDArray[np.uint64]:
    """128 bits per row that are equal when the words are equal in their order; shape (rows, 2)."""
    places = np.arange(len(words.values), dtype=np.uint64) - np.repeat(words.offsets[:-1], words.lengths).astype(
        np.uint64
    )
    prints = np.zeros((len(words.lengths), 2), dtype=np.uint64)
    filled = np.flatnonzero(words.lengths > 0)
    if len(filled):
        starts = words.offsets[filled]
        for lane, salt in enumerate((_GOLDEN, _MIX_1)):
            placed = mixed(words.values ^ mixed((places + np.uint64(1)) * salt))
            prints[filled, lane] = np.add.reduceat(placed, starts)
    return prints


def mixed(values: U64) -> U64:
    """SplitMix64's finalizer: every bit of a value reaches every bit of the result."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


def _runs(values: U64, n: int) -> U64:
    size = max(len(values) - n + 1, 0)
    total = np.zeros(size, dtype=np.uint64)
    for j in range(n):
        total = (total + values[j : j + size]) * _GOLDEN
    return mixed(total)


def _short_runs(words: Ragged, rows: NDArray[np.int64], n: int) -> U64:
    lengths, starts = words.lengths[rows], words.offsets[rows]
    total = np.zeros(len(rows), dtype=np.uint64)
    for j in range(n - 1):
        has = lengths > j
        total[has] = (total[has] + words.values[starts[has] + j]) * _GOLDEN
    return mixed(total ^ lengths.astype(np.uint64))


def _hashed(octets: NDArray[np.uint8], offsets: NDArray[np.int64]) -> tuple[U64, NDArray[np.int64]]:
    """The word hashes of a chunk of rows and how many each row has."""
    is_word = _word_bytes(octets)
    edges = np.unique(offsets[:-1][offsets[:-1] < offsets[1:]])
    opens = is_word.copy()
    opens[1:] &= ~is_word[:-1]
    opens[edges] = is_word[edges]
    closes = is_word.copy()
    closes[:-1] &= ~is_word[1:]
    closes[edges[1:] - 1] = is_word[edges[1:] - 1]
    starts = np.flatnonzero(opens)
    sizes = np.flatnonzero(closes) + 1 - starts
    per_row = np.diff(np.searchsorted(starts, offsets))
    return _hash_spans(octets, starts, sizes), per_row


def _hash_spans(octets: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> U64:
    padded = np.concatenate((octets, np.zeros(_LANE_BYTES * _LANES_MAX, dtype=np.uint8)))
    lanes = np.ndarray(len(octets) + 1, dtype="<u8", buffer=padded.data, strides=(1,))
    hashes = mixed(sizes.astype(np.uint64) * _GOLDEN)
    rest = np.arange(len(starts))
    for lane in range(_LANES_MAX):
        left = sizes[rest] - lane * _LANE_BYTES
        rest, left = rest[left > 0], left[left > 0]
        if not len(rest):
            break
        places = np.minimum(starts[rest] + lane * _LANE_BYTES, len(octets))
        chunk = lanes[places] & _LANE_MASKS[np.minimum(left, _LANE_BYTES)]
        hashes[rest] = mixed((hashes[rest] ^ chunk) + _GOLDEN)
    for i in np.flatnonzero(sizes > _LANE_BYTES * _LANES_MAX):
        word = octets[starts[i] : starts[i] + sizes[i]]
        hashes[i] = int.from_bytes(blake2b(word.data, digest_size=8).digest(), "little")
    return hashes


def _word_bytes(octets: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which bytes belong to a word."""
    table = _word_table()
    if not len(octets) or octets.max() < 128:
        return table[:128][octets] if len(octets) else np.zeros(0, dtype=bool)
    points = np.frombuffer(octets.tobytes().decode("utf-8").encode("utf-32-le"), dtype=np.uint32)
    leads = (octets & 0xC0) != 0x80
    members: NDArray[np.bool_] = table[points][np.cumsum(leads) - 1]
    return members


@cache
def _word_table() -> NDArray[np.bool_]:
    r"""For every code point whether `\w` matches it."""
    everything = "".join(map(chr, range(0x110000)))
    table = np.zeros(0x110000, dtype=bool)
    for run in re.finditer(r"\w+", everything):
        table[run.start() : run.end()] = True
    table.setflags(write=False)
    return table
