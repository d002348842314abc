"""Put groups of rows into train, validation and test: siblings of one source, and near-duplicates of whatever source.

A row and its near-duplicate on two sides measure memory, as do two rows of one source. So all that is linked by either
is one group, and a group goes to one side. Where it goes depends on the seed and the group's first source by name.
A source that near-duplicates link to many others can make a group too large for the shares asked for: look at the
sizes of the splits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from anneal.curation.domain.near_duplicates import NearDuplicates, check
from anneal.curation.domain.steps.base import SPLITS, Assignment, Signed
from anneal.curation.domain.steps.split import Split
from anneal.curation.domain.texts import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedSplit:
    """Assign splits by groups of sources and near-duplicates.

    Attributes:
        seed: another seed is another split.
        test: share of groups in the split `test`.
        validation: share of groups in the split `validation`.
        part: what near-duplicates are compared by.
        threshold: lowest Jaccard similarity of near-duplicates, 0.1 to 1.
        ngram: words per shingle, 1 to 50.

    Raises:
        WrongSetting: a share is outside 0 to 1, both together leave nothing to train on, or the threshold or the n-gram
            is outside its limits.
    """

    seed: str = "anneal-split"
    test: float = 0.15
    validation: float = 0.10
    part: Part = "conversation"
    threshold: float = 0.8
    ngram: int = 5

    def __post_init__(self) -> None:
        check(self.threshold, self.ngram)
        self._split.__post_init__()

    @property
    def _split(self) -> Split:
        return Split(seed=self.seed, test=self.test, validation=self.validation)

    @property
    def _pairs(self) -> NearDuplicates:
        return NearDuplicates(self.part, self.threshold, self.ngram)

    def sign(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """What finds a row's near-duplicates."""
        return self._pairs.sign(batch)

    def compare(self, signed: Signed) -> Assignment:
        """The split of each row."""
        if not len(signed):
            return Assignment(names=SPLITS, codes=np.zeros(0, dtype=np.int32))
        similar = self._pairs.find(signed)
        sources = pc.fill_null(signed.column("source"), "").combine_chunks().dictionary_encode()
        named = sources.dictionary.to_pylist()
        codes = sources.indices.to_numpy().astype(np.int64)
        # Sources are the nodes: rows of one source are linked by being it.
        worded = np.flatnonzero(similar.classes >= 0)
        left = codes[signed.places(np.concatenate((worded, similar.left)))]
        right = codes[signed.places(np.concatenate((similar.classes[worded], similar.right)))]
        links = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(named), len(named)))
        count, group_of = connected_components(links, directed=False)
        first: list[str | None] = [None] * count
        for name, group in sorted(zip(named, group_of.tolist(), strict=True), reverse=True):
            first[group] = name
        sides = np.array([SPLITS.index(self._split.of(name or "")) for name in first], dtype=np.int32)
        return Assignment(names=SPLITS, codes=sides[group_of[codes]])
