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
from anneal.curation.domain.near_duplicates import NearDuplicates, Similar, check
from anneal.curation.domain.steps.base import Signed, Verdicts, need
from anneal.curation.domain.texts import Part


@dataclass(frozen=True, slots=True)
class Behind:
    """Rows that stand behind others, by their numbers in the whole input; each of shape (rows,).

    Attributes:
        rows: the rows, ascending.
        by: the row that each is similar to.
        kept: the row that stays.
        similarities: to the second.
    """

    rows: NDArray[np.int64]
    by: NDArray[np.int64]
    kept: NDArray[np.int64]
    similarities: NDArray[np.float64]

    @classmethod
    def of(cls, part: pa.RecordBatch | None) -> Behind:
        """Those of a part; none where there is none."""
        if part is None:
            none = np.zeros(0, dtype=np.int64)
            return cls(none, none, none, np.zeros(0))
        row, by, kept = (part.column(name).to_numpy() for name in ("row", "by", "kept"))
        return cls(row, by, kept, part.column("similarity").to_numpy())

    def part(self) -> pa.RecordBatch:
        """The rows as a part."""
        arrays = [pa.array(values) for values in (self.rows, self.by, self.kept, self.similarities)]
        return pa.RecordBatch.from_arrays(arrays, names=["row", "by", "kept", "similarity"])

    def only(self, chosen: NDArray[np.bool_]) -> Behind:
        """Some of them."""
        return Behind(self.rows[chosen], self.by[chosen], self.kept[chosen], self.similarities[chosen])

    def joined(self, more: Behind) -> Behind:
        """These and others."""
        at = np.searchsorted(self.rows, more.rows)
        return Behind(
            np.insert(self.rows, at, more.rows),
            np.insert(self.by, at, more.by),
            np.insert(self.kept, at, more.kept),
            np.insert(self.similarities, at, more.similarities),
        )


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
        """What the order of rows goes by before their ids."""
        longest = -signed.array("length").astype(np.int64)
        if self.keep == "longest":
            return (longest,)
        if self.keep == "first":
            return (np.arange(len(signed)),)
        scores = signed.array("score")
        return np.where(np.isnan(scores), np.inf, -scores), longest

    def compare(self, signed: Signed) -> Sequence[Verdicts]:
        """Every row but the longest of each component leaves, and every row with the words of another."""
        from anneal.curation.domain.kernels.pairs import roots

        if not len(signed):
            return []
        similar = self._pairs.find(signed)
        component = roots(similar.left, similar.right, len(similar.classes))
        is_new = np.zeros(len(component), dtype=bool)
        is_new[component[similar.changed]] = True
        is_new = is_new[component]
        before = Behind.of(None if similar.is_first else signed.notes.found("behind"))
        of_rows = similar.classes[before.rows]
        before = before.only((of_rows >= 0) & ~is_new[of_rows])
        behind = before.joined(self._behind(signed, similar, is_new))
        signed.notes.keep("behind", behind.part())
        return [self._said(signed, behind)]

    def _behind(self, signed: Signed, similar: Similar, is_new: NDArray[np.bool_]) -> Behind:
        """The rows that leave, of the classes that are in a new component."""
        chosen = is_new[similar.left]
        left, right = similar.left[chosen], similar.right[chosen]
        rows = np.flatnonzero(similar.classes >= 0)
        of_rows = similar.classes[rows]
        matters = np.bincount(of_rows, minlength=len(is_new)) > 1
        matters[left] = matters[right] = True
        rows = rows[(matters & is_new)[of_rows]]
        of_rows = similar.classes[rows]
        view = signed.numbered(rows)
        ranks = view.ranks(*self._order(view))
        # From here on rows are their places in the view, until the end.
        from_last = np.empty(len(rows), dtype=np.int64)
        from_last[len(rows) - 1 - ranks] = np.arange(len(rows))
        head_of = np.zeros(len(is_new), dtype=np.int64)
        head_of[of_rows[from_last]] = from_last
        reached = walk_components(
            np.stack((head_of[left], head_of[right]), axis=1), similar.similarities[chosen], ranks
        )
        first = np.arange(len(rows))
        first[reached.rows] = reached.firsts
        heads = head_of[of_rows]
        others = np.flatnonzero(heads != np.arange(len(rows)))
        places = np.concatenate((reached.rows, others))
        by = np.concatenate((reached.by, heads[others]))
        kept = np.concatenate((reached.firsts, first[heads[others]]))
        similarities = np.concatenate((reached.similarities, np.ones(len(others))))
        order = np.argsort(places)
        return Behind(rows[places[order]], rows[by[order]], rows[kept[order]], similarities[order])

    def _said(self, signed: Signed, behind: Behind) -> Verdicts:
        by, kept = signed.places(behind.by), signed.places(behind.kept)
        return Verdicts(
            places=signed.places(behind.rows),
            reason="fuzzy_duplicate",
            numbers={"similarity": behind.similarities.round(6), "threshold": self.threshold},
            duplicate_of=by,
            related={"kept": np.where(kept == by, -1, kept)},
        )
