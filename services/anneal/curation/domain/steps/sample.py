"""Keep a sample of the training rows, each stratum with its share.

Rows stand in one order that neither depends on where they are in the input nor on how many are wanted: so a smaller
sample is part of every larger one of the same seed and strata, and the sizes of a study of how much data is enough
differ in size alone. Within a stratum the order is by chance (a keyed digest of the id). `proportional` puts the row
that is number k of n in its stratum at (k + 0.5) / n, so each start of the order holds the strata in their shares, to
within a row each (systematic sampling: Cochran, Sampling Techniques, 1977, chapter 8); `equal` puts it at k.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.chance import chance_of
from anneal.curation.domain.steps.base import TRAIN, Signed, Verdicts, need

META = "meta."


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Keep some training rows; rows of other splits stay.

    Attributes:
        rows: how many; all where there are fewer. Either this or `share`.
        share: share of the training rows, above 0 and at most 1.
        by: what makes a stratum: empty for one stratum, `source`, or `meta.<key>`, a key of the rows' `meta`.
        allocation: whether strata have the shares they have in the data, or equal ones as long as they last.
        seed: another seed is another sample.

    Raises:
        WrongSetting: neither or both of `rows` and `share`, one outside its limits, or `by` is something else.
    """

    rows: int | None = None
    share: float | None = None
    by: str = ""
    allocation: Literal["proportional", "equal"] = "proportional"
    seed: str = "anneal-sample"

    def __post_init__(self) -> None:
        need((self.rows is None) != (self.share is None), "rows", "give either `rows` or `share`")
        need(self.rows is None or self.rows >= 1, "rows", f"{self.rows} is less than 1")
        need(self.share is None or 0 < self.share <= 1, "share", f"{self.share} is not above 0 and at most 1")
        known = self.by in ("", "source") or (self.by.startswith(META) and len(self.by) > len(META))
        need(known, "by", f"{self.by[:80]!r} is none of: empty, source, meta.<key>")

    def sign(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The stratum of each row, and its place by chance."""
        chance = chance_of(batch.column("id"), self.seed)
        return pa.RecordBatch.from_arrays([self._strata(batch), chance], names=["stratum", "chance"])

    def _strata(self, batch: pa.RecordBatch) -> pa.Array:
        if not self.by:
            return pa.array([""] * batch.num_rows, type=pa.string())
        if self.by == "source":
            return pc.fill_null(batch.column("source"), "")
        metas = batch.column("meta").dictionary_encode()
        values = pa.array([_value(meta, self.by.removeprefix(META)) for meta in metas.dictionary.to_pylist()])
        return pc.fill_null(values.cast(pa.string()).take(metas.indices), "")

    def compare(self, signed: Signed) -> Sequence[Verdicts]:
        """The training rows that are not in the sample leave."""
        trained = np.flatnonzero(signed.in_split(TRAIN))
        wanted = int(len(trained) * self.share + 0.5) if self.share is not None else self.rows or 0
        if len(trained) <= wanted:
            return []
        strata = signed.column("stratum").combine_chunks().take(pa.array(trained)).dictionary_encode()
        codes = strata.indices.to_numpy().astype(np.int64)
        chance, ranks = signed.array("chance")[trained], signed.ranks()[trained]
        places = _places(codes, chance, ranks, is_equal=self.allocation == "equal")
        order = np.lexsort((ranks, chance, places))
        gone = np.sort(trained[order[wanted:]])
        numbers = {"rows": len(trained), "sampled": wanted}
        return [Verdicts(places=gone, reason="not_sampled", numbers=numbers)]


def _value(meta: str | None, key: str) -> str:
    value = json.loads(meta or "{}").get(key, "")
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _places(
    strata: NDArray[np.int64], chance: NDArray[np.uint64], ranks: NDArray[np.int64], *, is_equal: bool
) -> NDArray[np.float64]:
    """Where each row stands in the order of all, by its number within its stratum."""
    order = np.lexsort((ranks, chance, strata))
    sizes = np.bincount(strata)
    starts = np.concatenate(([0], np.cumsum(sizes)))
    within = np.empty(len(strata))
    within[order] = np.arange(len(strata)) - starts[strata[order]]
    return within if is_equal else (within + 0.5) / sizes[strata]
