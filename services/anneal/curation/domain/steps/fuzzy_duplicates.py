"""Drop rows that say almost the same as another row.

What is almost the same: `near_duplicates.py`. Of each connected component of similar rows the longest stays (in
characters; then the smallest id, then the source), wherever it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from anneal.curation.domain.components import walk_components
from anneal.curation.domain.near_duplicates import NearDuplicates, check
from anneal.curation.domain.steps.base import Signed, Verdicts
from anneal.curation.domain.texts import Part


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
        check(self.threshold, self.ngram)

    @property
    def _pairs(self) -> NearDuplicates:
        return NearDuplicates(self.part, self.threshold, self.ngram)

    def sign(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """What finds a row's near-duplicates."""
        return self._pairs.sign(batch)

    def compare(self, signed: Signed) -> Sequence[Verdicts]:
        """Every row but the longest of each component leaves, and every row with the words of another."""
        if not len(signed):
            return []
        similar = self._pairs.find(signed)
        reached = walk_components(similar.pairs, similar.similarities, similar.ranks)
        first = np.arange(len(signed))
        first[reached.rows] = reached.firsts
        behind = similar.worded[similar.worded != similar.heads]
        heads = similar.heads[similar.worded != similar.heads]
        places = np.concatenate((reached.rows, behind))
        order = np.argsort(places)
        by = np.concatenate((reached.by, heads))[order]
        kept = np.concatenate((reached.firsts, first[heads]))[order]
        similarity = np.concatenate((reached.similarities, np.ones(len(behind))))[order]
        said = Verdicts(
            places=places[order],
            reason="fuzzy_duplicate",
            numbers={"similarity": similarity.round(6), "threshold": self.threshold},
            duplicate_of=by,
            related={"kept": np.where(kept == by, -1, kept)},
        )
        return [said]
