r"""Words and word n-grams of many texts as 64-bit hashes, without a Python object per word.

A word is a run of `\w` as Python's `re` has it, lower-cased one code point at a time (so a final sigma stays a sigma).
Words are hashed eight UTF-8 bytes at a time with the multiply-and-shift mixing of SplitMix64 (Steele, Lea, Flood:
"Fast splittable pseudorandom number generators", OOPSLA 2014). An n-gram is a polynomial of its words' hashes, mixed,
as it rolls on from word to word (Karp, Rabin 1987, modulo 2^64). The hashes are not keyed: they serve equality among
honest rows, not signatures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.texts import bytes_of

U64 = NDArray[np.uint64]

_POINTS = 0x110000
_SURROGATES = slice(0xD800, 0xE000)


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
    from anneal.curation.domain.kernels import scan

    return Ragged(*scan.hash_words(*bytes_of(texts), word_table()))


def ngrams_of(words: Ragged, n: int, *, short_rows: bool) -> Ragged:
    """The hashes of each run of `n` words; a row with fewer words has one n-gram of all its words, or none.

    Args:
        words: the words of each row.
        n: words per n-gram, at least 1.
        short_rows: whether a row of 1 to n - 1 words counts as one n-gram.
    """
    from anneal.curation.domain.kernels import scan

    return Ragged(*scan.hash_ngrams(words.values, words.offsets, n, int(short_rows)))


def fingerprints_of(words: Ragged) -> U64:
    """128 bits per row that are equal when the words are equal in their order; shape (rows, 2)."""
    from anneal.curation.domain.kernels import scan

    prints: U64 = scan.fingerprints(words.values, words.offsets)
    return prints


def shingle_sets(texts: pa.Array, ngram: int) -> Ragged:
    """The n-grams of each text of a `large_string` array, sorted and each once; short rows are one.

    Equal to the sets of `ngrams_of(words_of(texts), ngram, short_rows=True)`, in one pass.
    """
    from anneal.curation.domain.kernels import scan

    return Ragged(*scan.shingle(*bytes_of(texts), word_table(), ngram))


@cache
def word_table() -> NDArray[np.uint32]:
    r"""For every code point its lower case if `\w` matches that, else 0; shape (0x110000,)."""
    points = np.arange(_POINTS, dtype=np.uint32)
    points[_SURROGATES] = 0
    everything = points.tobytes().decode("utf-32-le")
    lowered = pc.utf8_lower(pa.array([everything], pa.large_string()))[0].as_py()
    table = np.zeros(_POINTS, dtype=np.uint32)
    folded = np.frombuffer(lowered.encode("utf-32-le"), dtype=np.uint32)
    for run in re.finditer(r"\w+", lowered):
        table[run.start() : run.end()] = folded[run.start() : run.end()]
    table.setflags(write=False)
    return table
