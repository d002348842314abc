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

from anneal.curation.domain.candidates import Bands, Pairs, candidate_pairs, signatures
from anneal.curation.domain.known_pairs import KnownPairs, pair_keys
from anneal.curation.domain.similarity import ShingleSets
from anneal.curation.domain.steps.base import Signed, need
from anneal.curation.domain.texts import Part, text_of
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
    """Rows that are nearly the same. Rows are places among those compared.

    Attributes:
        ranks: the order of all rows: the longest first, then by id; shape (rows,).
        worded: the rows that have words, ascending.
        heads: for each of them the row that stands for it: of those with the same words the first.
        pairs: heads that are similar, shape (pairs, 2), the first in the order first.
        similarities: of the pairs.
    """

    ranks: NDArray[np.int64]
    worded: NDArray[np.int64]
    heads: NDArray[np.int64]
    pairs: Pairs
    similarities: NDArray[np.float64]


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
        """Length, fingerprint and band keys of each row; a row without words has length -1."""
        texts = text_of(batch, self.part)
        found = signatures(texts, self.ngram, self._bands)
        lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
        columns = {"length": np.where(found.words > 0, lengths, -1)}
        columns |= {f"print_{half}": np.ascontiguousarray(found.prints[:, half]) for half in range(2)}
        columns |= {f"band_{band}": found.keys[band] for band in range(self._bands.count)}
        return pa.RecordBatch.from_pydict(columns)

    def shingles(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The shingles of each row, ascending and each once."""
        sets = shingle_sets(text_of(batch, self.part), self.ngram)
        lists = pa.LargeListArray.from_arrays(pa.array(sets.offsets), pa.array(sets.values))
        return pa.RecordBatch.from_arrays([lists], names=["shingles"])

    def find(self, signed: Signed) -> Similar:
        """The similar rows among those signed."""
        lengths = signed.array("length")
        ranks = signed.ranks(-lengths)
        worded = np.flatnonzero(lengths >= 0)
        prints = np.stack([signed.array(f"print_{half}") for half in range(2)], axis=1)
        heads = worded[_heads(prints[worded], ranks[worded])]
        alone = np.unique(heads)
        places = np.empty(len(alone), dtype=np.int64)
        places[np.argsort(ranks[alone])] = np.arange(len(alone))
        keys = (signed.array(f"band_{band}")[alone] for band in range(self._bands.count))
        pairs = alone[candidate_pairs(keys, places)]
        similarities = self._verified(signed, prints, pairs)
        similar = similarities >= self.threshold
        return Similar(ranks, worded, heads, pairs[similar], similarities[similar])

    def _verified(self, signed: Signed, prints: NDArray[np.uint64], pairs: Pairs) -> NDArray[np.float64]:
        """The similarity of each pair; what was verified for the version before is not verified again."""
        keys = pair_keys(prints, pairs)
        similarities = KnownPairs.of(signed.notes.found("pairs")).find(keys)
        unknown = np.isnan(similarities)
        similarities[unknown] = self._jaccard(signed, pairs[unknown])
        signed.notes.keep("pairs", KnownPairs(keys, similarities).part())
        return similarities

    def _jaccard(self, signed: Signed, pairs: Pairs) -> NDArray[np.float64]:
        wanted = np.unique(pairs)
        if not len(wanted):
            return np.zeros(0)
        looked = signed.revisit("verify", self.shingles, wanted)
        chunks = [looked.open(piece).column("shingles") for piece in range(len(looked.bounds) - 1)]
        return ShingleSets([_ragged(chunk) for chunk in chunks]).jaccard(np.searchsorted(wanted, pairs), self.threshold)


def _ragged(lists: pa.LargeListArray) -> Ragged:
    """The lists, where they lie."""
    offsets = lists.offsets.to_numpy()
    return Ragged(lists.values.to_numpy(), offsets)


def _heads(prints: NDArray[np.uint64], ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each row the first of those with the same fingerprint, shape (rows,)."""
    order = np.lexsort((ranks, prints[:, 1], prints[:, 0]))
    ordered = prints[order]
    opens = np.ones(len(order), dtype=bool)
    opens[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    heads = np.empty(len(order), dtype=np.int64)
    heads[order] = order[opens][np.cumsum(opens) - 1] if len(order) else order
    return heads
