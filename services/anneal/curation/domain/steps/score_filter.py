"""Drop rows by a score they have: of a step before, or of the dataset they come from."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from anneal.curation.domain.steps.base import Removal, Removals, need


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFilter:
    """Drop a row whose score is outside its limits; a limit itself is allowed, None is no limit.

    Attributes:
        score: name among the row's `scores`, such as `llm_judge`.
        unscored: what becomes of rows without that score (absent, null or NaN): unknown is not low.
        min: lowest score kept.
        max: highest score kept.

    Raises:
        WrongSetting: the name is blank, there is no limit, one is not finite, or they cross.
    """

    score: str
    unscored: Literal["keep", "drop"]
    min: float | None = None
    max: float | None = None

    def __post_init__(self) -> None:
        need(bool(self.score.strip()), "score", "is blank")
        need(self.min is not None or self.max is not None, "min", "at least one limit is needed")
        need(self.min is None or isfinite(self.min), "min", f"{self.min} is not finite")
        need(self.max is None or isfinite(self.max), "max", f"{self.max} is not finite")
        crossed = self.min is not None and self.max is not None and self.min > self.max
        need(not crossed, "max", f"{self.max} is below min {self.min}")

    def judge(self, batch: pa.RecordBatch) -> Removals:
        """The rows outside a limit with their score, and those without a score where they shall leave."""
        found = pc.map_lookup(batch.column("scores"), self.score, "last")
        values = pc.fill_null(found, float("nan")).to_numpy(zero_copy_only=False)
        removals: dict[int, Removal] = {}
        if self.unscored == "drop":
            for row in np.flatnonzero(np.isnan(values)):
                removals[int(row)] = Removal("unscored", {"name": self.score})
        if self.min is not None:
            for row in np.flatnonzero(values < self.min):
                removals[int(row)] = Removal("score_too_low", self._numbers(values[row], "min", self.min))
        if self.max is not None:
            for row in np.flatnonzero(values > self.max):
                removals[int(row)] = Removal("score_too_high", self._numbers(values[row], "max", self.max))
        return removals

    def _numbers(self, value: float, limit: str, allowed: float) -> dict[str, str | float]:
        return {"name": self.score, "score": float(value) if isfinite(value) else str(value), limit: allowed}
