"""Drop rows that say almost the same as another row.

What is almost the same: `near_duplicates.py`. Of each connected component of similar rows one stays: the longest (in
characters), or the one with the best score, or the one that stands first; of equals the longest, then the one with the
smallest id, then by source. But for the first, it does not matter where rows stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.components import walk_components
from anneal.curation.domain.near_duplicates import NearDuplicates, check
from anneal.curation.domain.steps.base import Signed, Verdicts, need
from anneal.curation.domain.texts import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzyDuplicates:
    """Of rows with almost equal text keep one.

    Attributes:
        part: what is compared.
        keep: which one: the `longest`, the one with the best `score`, or the `first`.
        score: name of that score; rows without it come after those that have it.
        threshold: lowest Jaccard similarity of duplicates, 0.1 to 1.
        ngram: words per shingle, 1 to 50.

    Raises:
        WrongSetting: the threshold or the n-gram is outside its limits, or a score is named or missing for no reason.
    """

    part: Part = "conversation"
    threshold: float = 0.8
    ngram: int = 5
    keep: Literal["longest", "score", "first"] = "longest"
    score: str = ""

    def __post_init__(self) -> None:
        check(self.threshold, self.ngram)
        named = bool(self.score)
        need(named == (self.keep == "score"), "score", "is for `keep: score`, which needs one")

    @property
    def _pairs(self) -> NearDuplicates:
        return NearDuplicates(self.part, self.threshold, self.ngram)

    def sign(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """What finds a row's near-duplicates."""
        signed = self._pairs.sign(batch)
        if self.keep != "score":
            return signed
        scores = batch.column("scores") if "scores" in batch.schema.names else None
        found = pa.nulls(batch.num_rows, pa.float64()) if scores is None else pc.map_lookup(scores, self.score, "last")
        return signed.append_column("score", found)

    def _order(self, signed: Signed) -> Sequence[NDArray[Any]]:
        """What the order of rows goes by before their length."""
        if self.keep == "longest":
            return ()
        if self.keep == "first":
            return (np.arange(len(signed)),)
        scores = signed.array("score")
        return (np.where(np.isnan(scores), np.inf, -scores),)

    def compare(self, signed: Signed) -> Sequence[Verdicts]:
        """Every row but the longest of each component leaves, and every row with the words of another."""
        if not len(signed):
            return []
        similar = self._pairs.find(signed, *self._order(signed))
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
