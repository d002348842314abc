r"""Pairs of rows that say almost the same.

Texts are sets of word n-grams of lower-cased `\w+`; a text of fewer words is one shingle of them all, one of no words
(emoji only, say) is not compared. Rows of the same words stand behind one of them; MinHash and LSH find candidates
among those, and only pairs whose true Jaccard similarity reaches the threshold count, so no pair is one by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.candidates import Bands, distinct, ends_of, signatures
from anneal.curation.domain.matches import Matches, grown
from anneal.curation.domain.similarity import ShingleSets
from anneal.curation.domain.steps.base import Signed, need
from anneal.curation.domain.texts import COLUMNS, Part, text_of
from anneal.curation.domain.words import Ragged, shingle_sets

MIN_THRESHOLD = 0.1
MAX_NGRAM = 50


def check(threshold: float, ngram: int) -> None:
    """Check settings.

    Raises:
        WrongSetting: the threshold or the n-gram is outside its limits.
    """
    fits = MIN_THRESHOLD <= threshold <= 1
    need(fits, "threshold", f"{threshold} is not within {MIN_THRESHOLD} and 1")
    need(1 <= ngram <= MAX_NGRAM, "ngram", f"{ngram} is not within 1 and {MAX_NGRAM}")


@dataclass(frozen=True, slots=True)
class Similar:
    """Rows that are nearly the same. Rows are numbers in the whole input.

    Attributes:
        classes: of each row the first one with the same words, -1 for rows that have left or have no words.
        left: one class of each pair of similar ones, shape (pairs,).
        right: the other.
        similarities: of the pairs.
        changed: classes that are not as they were in the version before, or are in pairs that are not.
        is_first: nothing was known before.
    """

    classes: NDArray[np.int32]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    similarities: NDArray[np.float64]
    changed: NDArray[np.int64]
    is_first: bool


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Finds them.

    Attributes:
        part: what is compared.
        threshold: lowest Jaccard similarity of a pair.
        ngram: words per shingle.
    """

    part: Part
    threshold: float
    ngram: int

    @property
    def _bands(self) -> Bands:
        return Bands.for_threshold(self.threshold)

    def sign(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Characters, words, fingerprint and band keys of each row."""
        texts = text_of(batch, self.part)
        found = signatures(texts, self.ngram, self._bands)
        columns = {"length": pc.utf8_length(texts).cast(pa.int32()), "words": found.words.astype(np.int32)}
        columns |= {f"print_{half}": np.ascontiguousarray(found.prints[:, half]) for half in range(2)}
        columns |= {f"band_{band}": found.keys[band] for band in range(self._bands.count)}
        columns |= {"checks": pa.FixedSizeListArray.from_arrays(found.checks.ravel(), self._bands.count)}
        return pa.RecordBatch.from_pydict(columns)

    def shingles(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The shingles of each row, ascending and each once."""
        sets = shingle_sets(text_of(batch, self.part), self.ngram)
        lists = pa.LargeListArray.from_arrays(pa.array(sets.offsets), pa.array(sets.values))
        return pa.RecordBatch.from_arrays([lists], names=["shingles"])

    def find(self, signed: Signed) -> Similar:
        """The similar rows among those signed."""
        before = Matches.of(signed.notes, signed.parts.keys)
        matches, changed = grown(before, signed, self._bands.count)
        left, right = ends_of(matches.codes)
        unknown = np.flatnonzero(np.isnan(matches.similarities))
        matches.similarities[unknown] = 0
        if len(before.classes):
            # A few pairs by chance would let the texts of all pieces be read.
            unknown = unknown[self._share(signed, left[unknown], right[unknown])]
        similarities = self._jaccard(signed, left[unknown], right[unknown])
        matches.similarities[unknown] = np.where(similarities >= self.threshold, similarities, 0)
        matches.keep(signed.notes, signed.parts.keys)
        similar = matches.similarities > 0
        found = left[similar], right[similar], matches.similarities[similar]
        return Similar(matches.classes, *found, changed, is_first=not len(before.classes))

    def _share(self, signed: Signed, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which pairs share a band in all bits that are known of it, shape (pairs,)."""
        rows = distinct(left, right)
        view = signed.numbered(rows)
        left, right = np.searchsorted(rows, left), np.searchsorted(rows, right)
        checks = view.array("checks")
        share = np.zeros(len(left), dtype=bool)
        for band in range(self._bands.count):
            keys = view.array(f"band_{band}")
            share |= (keys[left] == keys[right]) & (checks[left, band] == checks[right, band])
        return share

    def _jaccard(self, signed: Signed, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
        if not len(left):
            return np.zeros(0)
        # Many pairs are of few rows, whose places are looked up and not sought.
        is_wanted = np.zeros(int(signed.starts[-1]), dtype=bool)
        is_wanted[left] = is_wanted[right] = True
        wanted = np.flatnonzero(is_wanted)
        place_of = np.empty(len(is_wanted), dtype=np.int64)
        place_of[wanted] = np.arange(len(wanted))
        looked = signed.numbered(wanted).revisit("verify", self.shingles, np.arange(len(wanted)), COLUMNS)
        sets = ShingleSets(looked.bounds, lambda part: _ragged(looked.open(part).column("shingles")))
        return sets.jaccard(place_of[left], place_of[right], self.threshold)


def _ragged(lists: pa.LargeListArray) -> Ragged:
    """The lists, where they lie."""
    offsets = lists.offsets.to_numpy()
    return Ragged(lists.values.to_numpy(), offsets)
