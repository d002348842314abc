"""Mix the training rows of several sources by weight, and say exactly how often each row is there.

A source that has fewer rows than its share is repeated, up to a bound: up to four epochs repeated data is nearly as
good as new data (Muennighoff et al. 2023, arXiv:2305.16264, section 5). The rows that are repeated once more than
others, or that leave, are chosen by a keyed digest of their ids, so a larger mixture holds a smaller one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.chance import chance_of
from anneal.curation.domain.steps.base import TRAIN, Copies, Signed, need

MAX_SOURCES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Take training rows of each dataset that the order reads in proportion to its weight; other splits stay.

    Attributes:
        weights: one for each source of the order, in their order; 0 leaves a source out.
        rows: training rows of the mixture; None keeps as many as came in.
        max_copies: how often a row may be there at most, 1 to 100. A source that would need more gives what it can.
        seed: another seed chooses other rows.

    Raises:
        WrongSetting: there is no weight above 0, or a setting is outside its limits.
    """

    weights: tuple[float, ...]
    rows: int | None = None
    max_copies: int = 4
    seed: str = "anneal-mix"

    def __post_init__(self) -> None:
        need(0 < len(self.weights) <= MAX_SOURCES, "weights", f"{len(self.weights)} are not within 1 and {MAX_SOURCES}")
        for index, weight in enumerate(self.weights):
            need(0 <= weight < float("inf"), f"weights[{index}]", f"{weight} is no weight")
        need(sum(self.weights) > 0, "weights", "all are 0")
        need(self.rows is None or self.rows >= 1, "rows", f"{self.rows} is less than 1")
        need(1 <= self.max_copies <= 100, "max_copies", f"{self.max_copies} is not within 1 and 100")

    def sign(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The place of each row by chance."""
        chance = chance_of(batch.column("id"), self.seed)
        return pa.RecordBatch.from_arrays([chance], names=["chance"])

    def compare(self, signed: Signed) -> Copies:
        """How often each row is there."""
        counts = np.ones(len(signed), dtype=np.int32)
        trained = signed.in_split(TRAIN)
        origins, chance, ranks = signed.origins(), signed.array("chance"), signed.ranks()
        wanted = self._shares(self.rows or int(trained.sum()))
        account: list[dict[str, Any]] = []
        for source, share in enumerate(wanted):
            rows = np.flatnonzero(trained & (origins == source))
            counts[rows] = _copies(chance[rows], ranks[rows], share, self.max_copies)
            account.append(
                {
                    "source": source,
                    "weight": self.weights[source],
                    "rows_in": len(rows),
                    "rows_asked": share,
                    "rows_out": int(counts[rows].sum()),
                    "rows_left_out": int((counts[rows] == 0).sum()),
                    "max_copies": int(counts[rows].max(initial=0)),
                }
            )
        return Copies(counts=counts, reason="not_mixed_in", account=account)

    def _shares(self, total: int) -> list[int]:
        """Rows of each source, by largest remainder: they add up to the total."""
        weights = np.array(self.weights, dtype=np.float64)
        exact = weights / weights.sum() * total
        rows = np.floor(exact).astype(np.int64)
        most = np.lexsort((np.arange(len(exact)), -(exact - rows)))
        rows[most[: total - int(rows.sum())]] += 1
        return [int(number) for number in rows]


def _copies(chance: NDArray[np.uint64], ranks: NDArray[np.int64], wanted: int, max_copies: int) -> NDArray[np.int32]:
    if not len(chance):
        return np.zeros(0, dtype=np.int32)
    times, more = divmod(min(wanted, max_copies * len(chance)), len(chance))
    counts = np.full(len(chance), times, dtype=np.int32)
    counts[np.lexsort((ranks, chance))[:more]] += 1
    return counts
