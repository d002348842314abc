"""The shapes of a step: it judges or rewrites rows one by one, compares all rows, or assigns splits.

A step decides; it never counts, logs or writes. The engine does, and keeps the removed rows with their reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

TEST = "test"
VALIDATION = "validation"
TRAIN = "train"
# In this order a split's number stands for its name; datasets may bring others.
SPLITS = (TRAIN, VALIDATION, TEST)


class WrongSetting(ValueError):
    """A setting of a step is impossible.

    Attributes:
        field: the setting.
    """

    def __init__(self, field: str, description: str) -> None:
        super().__init__(description)
        self.field = field


def need(holds: bool, field: str, description: str) -> None:
    """Check a setting.

    Raises:
        WrongSetting: the condition does not hold.
    """
    if not holds:
        raise WrongSetting(field, description)


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
