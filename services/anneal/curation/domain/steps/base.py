"""The shapes of a step: it judges or rewrites rows one by one, compares all rows, or assigns splits.

A step decides; it never counts, logs or writes. The engine does, and keeps the removed rows with their reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.wrong_setting import WrongSetting as WrongSetting
from anneal.curation.domain.wrong_setting import need as need

TEST = "test"
VALIDATION = "validation"
TRAIN = "train"
# In this order a split's number stands for its name; datasets may bring others.
SPLITS = (TRAIN, VALIDATION, TEST)


@dataclass(frozen=True, slots=True)
class Removal:
    """Why a row leaves.

    Attributes:
        reason: stable, such as `answer_too_short`.
        numbers: what was measured and what was allowed.
        duplicate_of: id of the row (or benchmark item) it repeats.
    """

    reason: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    duplicate_of: str | None = None


Removals = Mapping[int, Removal]


@runtime_checkable
class RowFilter(Protocol):
    """Judges each row by itself: a pure function of the row, so that it may run anywhere and be remembered.

    A filter with `spares_test = True` never takes a row of the split test away, whatever it says of it.
    """

    def judge(self, batch: pa.RecordBatch) -> Removals:
        """The rows that leave, by their place in the batch, whose columns are those of a document or conversation."""
        ...


@runtime_checkable
class Rewriter(Protocol):
    """Changes the content of rows, each by itself: a pure function of the row."""

    def rewrite(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """As many rows in the same order and schema; whoever calls gives changed rows their new ids."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """The rows that leave after a comparison, in columns: there may be millions.

    Attributes:
        places: of the rows among those compared, ascending; shape (removed,).
        reason: stable, such as `fuzzy_duplicate`.
        numbers: what was measured and allowed, by name: one value for all rows, or an array of one per row.
        duplicate_of: places of the rows they repeat, shape (removed,); None where they repeat none.
        related: further rows that are named by their ids among the numbers: places, -1 for none.
    """

    places: NDArray[np.int64]
    reason: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    duplicate_of: NDArray[np.int64] | None = None
    related: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The split of each row compared: `names[codes[place]]`."""

    names: Sequence[str]
    codes: NDArray[np.int32]


class Signed(Protocol):
    """The rows that a comparison sees, by what its step signed of each. A row's place is its number among them.

    Rows stand in the order of the input, but a comparison must not depend on it: order by `ranks`.
    """

    def __len__(self) -> int:
        """How many rows."""
        ...

    def array(self, name: str) -> NDArray[Any]:
        """A column of numbers, shape (rows,); of lists of one size, shape (rows, size). Read it, never write to it."""
        ...

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of the signatures; `id` and `source` of the rows are always among them."""
        ...

    def ranks(self, *keys: NDArray[Any]) -> NDArray[np.int64]:
        """The place of each row in their order by the keys (smallest first), then id, then source, then place."""
        ...

    def revisit(self, look: Callable[[pa.RecordBatch], pa.RecordBatch], places: NDArray[np.int64]) -> pa.Table:
        """What `look`, a pure and picklable function, sees in some rows: one row each, in the order of the places.

        Args:
            look: called with batches of rows.
            places: ascending.
        """
        ...


@runtime_checkable
class Comparer(Protocol):
    """Compares rows with each other, by a signature of each."""

    def sign(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """What the comparison needs of each row, a row for each; a pure function, so that it is remembered."""
        ...

    def compare(self, signed: Signed) -> Sequence[Verdicts] | Assignment:
        """Which rows leave, each at most once; or the split of every row."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores for the rows of a batch.

    Attributes:
        values: name -> float64 array of one score per row, null where a row is unscored: unknown is not zero.
        causes: why a row has no score; None where it has.
        notes: name -> one text per row or None, such as a judge's feedback; kept in the row's `meta`.
    """

    values: Mapping[str, pa.Array]
    causes: Sequence[str | None]
    notes: Mapping[str, Sequence[str | None]] = field(default_factory=dict)


@runtime_checkable
class Scorer(Protocol):
    """Gives rows scores, at a price: it sees only the rows that are left, and what it said is kept across attempts."""

    def score(self, batch: pa.RecordBatch) -> Scores:
        """The scores of the rows."""
        ...


class Gathering(Protocol):
    """What a global step remembers of the rows while they pass: signatures, not rows.

    Rows pass in one or more rounds, each time in the same order.
    """

    def add(self, numbers: NDArray[np.int64], batch: pa.RecordBatch) -> None:
        """See rows of this round; `numbers` are their places in the whole input, shape (rows,)."""
        ...

    def close(self) -> NDArray[np.int64] | None:
        """End the round: the numbers of the rows to see in one more round, ascending, or None when there is none."""
        ...

    def removals(self) -> Removals:
        """After the last round: the rows that leave, by number."""
        ...


@runtime_checkable
class GlobalStep(Protocol):
    """Compares rows with each other."""

    def gather(self) -> Gathering:
        """Begin."""
        ...


@runtime_checkable
class Assigner(Protocol):
    """Puts rows into splits."""

    def assign(self, batch: pa.RecordBatch) -> Sequence[str]:
        """The split of each row."""
        ...


Runnable = RowFilter | Rewriter | GlobalStep | Assigner
