r"""Drop rows that say almost the same as another row.

Texts are sets of word n-grams of lower-cased `\w+`; a text of fewer words is one shingle of them all, one of no words
(emoji only, say) is not compared. Rows of the same words collapse first; MinHash and LSH find candidates among the
others, and only pairs whose true Jaccard similarity reaches the threshold count, so no row is removed by chance. Of
each connected component the longest row stays (in characters; then the smallest id, then the source),
wherever it stands.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.candidates import Bands, Pairs, candidate_pairs, signatures
from anneal.curation.domain.components import Reached, walk_components
from anneal.curation.domain.identities import Identities
from anneal.curation.domain.similarity import ShingleSets
from anneal.curation.domain.steps.base import Removal, Removals, need
from anneal.curation.domain.texts import Part, text_of
from anneal.curation.domain.words import Ragged, shingle_sets

MIN_THRESHOLD = 0.1
MAX_NGRAM = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzyDuplicates:
    """Of rows with almost equal text keep the longest.

    Attributes:
        part: what is compared.
        threshold: lowest Jaccard similarity of duplicates, 0.1 to 1.
        ngram: words per shingle, 1 to 50.

    Raises:
        WrongSetting: the threshold or the n-gram is outside its limits.
    """

    part: Part = "conversation"
    threshold: float = 0.8
    ngram: int = 5

    def __post_init__(self) -> None:
        fits = MIN_THRESHOLD <= self.threshold <= 1
        need(fits, "threshold", f"{self.threshold} is not within {MIN_THRESHOLD} and 1")
        need(1 <= self.ngram <= MAX_NGRAM, "ngram", f"{self.ngram} is not within 1 and {MAX_NGRAM}")

    def gather(self) -> Signatures:
        """Begin."""
        return Signatures(step=self, bands=Bands.for_threshold(self.threshold))


@dataclass(slots=True, kw_only=True)
class Signatures:
    """First round: fingerprints, lengths and band keys of all rows. Second: the shingles of the candidates."""

    step: FuzzyDuplicates
    bands: Bands
    _seen: Identities = field(default_factory=Identities)
    _prints: list[NDArray[np.uint64]] = field(default_factory=list)
    _lengths: list[NDArray[np.int64]] = field(default_factory=list)
    _keys: list[NDArray[np.uint64]] = field(default_factory=list)
    _groups: Groups | None = None
    _wanted: list[Ragged] = field(default_factory=list)

    def add(self, numbers: NDArray[np.int64], batch: pa.RecordBatch) -> None:
        """Remember rows of this round."""
        texts = text_of(batch, self.step.part)
        if self._groups is not None:
            self._wanted.append(shingle_sets(texts, self.step.ngram))
            return
        signed = signatures(texts, self.step.ngram, self.bands)
        worded = signed.words > 0
        mask = pa.array(worded)
        self._seen.add(numbers[worded], batch.filter(mask))
        self._lengths.append(pc.utf8_length(texts.filter(mask)).to_numpy(zero_copy_only=False).astype(np.int64))
        self._prints.append(signed.prints[worded])
        self._keys.append(signed.keys[:, worded])

    def close(self) -> NDArray[np.int64] | None:
        """After the first round, the rows that have a candidate."""
        if self._groups is not None:
            return None
        ranks = self._seen.ranks(np.concatenate([np.zeros(0, dtype=np.int64), *self._lengths]))
        prints = np.concatenate([np.zeros((0, 2), dtype=np.uint64), *self._prints])
        keys = np.concatenate([np.zeros((self.bands.count, 0), dtype=np.uint64), *self._keys], axis=1)
        self._prints, self._keys, self._lengths = [], [], []
        self._groups = Groups.of(prints, keys, ranks)
        return np.sort(self._seen.numbers()[self._groups.compared]) if len(self._groups.pairs) else None

    def removals(self) -> Removals:
        """Every row but the longest of each component, and every row with the words of another."""
        assert self._groups is not None
        groups, ids, numbers = self._groups, self._seen.ids(), self._seen.numbers()
        reached = self._verified(groups)
        removals = {}
        firsts = np.arange(len(numbers))
        firsts[reached.rows] = reached.firsts
        for row, by, similarity in zip(
            reached.rows.tolist(), reached.by.tolist(), reached.similarities.tolist(), strict=True
        ):
            removals[int(numbers[row])] = self._removal(ids, by, similarity, int(firsts[row]))
        for row in np.flatnonzero(groups.heads != np.arange(len(numbers))).tolist():
            head = int(groups.heads[row])
            removals[int(numbers[row])] = self._removal(ids, head, 1.0, int(firsts[head]))
        return removals

    def _verified(self, groups: Groups) -> Reached:
        # Rows passed in the order of their numbers.
        order = groups.compared[np.argsort(self._seen.numbers()[groups.compared], kind="stable")]
        places = np.full(len(groups.heads), -1, dtype=np.int64)
        places[order] = np.arange(len(order))
        similarities = ShingleSets(self._wanted).jaccard(places[groups.pairs], self.step.threshold)
        similar = similarities >= self.step.threshold
        return walk_components(groups.pairs[similar], similarities[similar], groups.ranks)

    def _removal(self, ids: pa.ChunkedArray, by: int, similarity: float, first: int) -> Removal:
        numbers = {"similarity": round(similarity, 6), "threshold": self.step.threshold}
        if by == first:
            return Removal("fuzzy_duplicate", numbers, ids[by].as_py())
        return Removal("fuzzy_duplicate", {**numbers, "kept": ids[first].as_py()}, ids[by].as_py())


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows of the same words behind one head each, and the heads to compare.

    Attributes:
        heads: the row that stands for each row, shape (rows,); its own head where no other row has its words.
        pairs: heads to compare, shape (pairs, 2).
        compared: the heads in `pairs`, each once.
        ranks: the order of the rows, shape (rows,).
    """

    heads: NDArray[np.int64]
    pairs: Pairs
    compared: NDArray[np.int64]
    ranks: NDArray[np.int64]

    @classmethod
    def of(cls, prints: NDArray[np.uint64], keys: NDArray[np.uint64], ranks: NDArray[np.int64]) -> Groups:
        """Group rows by fingerprint, and find the candidates among the heads by their band keys."""
        order = np.lexsort((ranks, prints[:, 1], prints[:, 0]))
        ordered = prints[order]
        opens = np.ones(len(order), dtype=bool)
        opens[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        heads = np.empty(len(order), dtype=np.int64)
        heads[order] = order[opens][np.cumsum(opens) - 1] if len(order) else order
        alone = np.sort(order[opens])
        places = np.empty(len(alone), dtype=np.int64)
        places[np.argsort(ranks[alone])] = np.arange(len(alone))
        pairs = alone[candidate_pairs((band[alone] for band in keys), places)]
        return cls(heads, pairs, np.unique(pairs), ranks)
