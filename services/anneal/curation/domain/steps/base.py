"""The shapes of a step: it judges, rewrites or scores rows one by one, compares all rows, or assigns splits.

A step decides; it never counts, logs or writes. The engine does, and keeps the removed rows with their reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.needs import WrongSetting as WrongSetting
from anneal.curation.domain.needs import need as need

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

    A filter with `spares_test = True` never takes a row of the split test away, whatever it says of it. Preferences are
    judged as the conversations of their prompt with each answer; a filter with a `judge_unwanted`, of the same form,
    has that judge those that end with an unwanted answer.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """How often each row compared is there from now on.

    Attributes:
        counts: 0 for a row that leaves; shape (rows,).
        reason: why those leave.
        account: what was done, as JSON values, for the manifest.
    """

    counts: NDArray[np.int32]
    reason: str
    account: Sequence[Mapping[str, Any]]


class Looked(Protocol):
    """What was seen in some rows at a second look, piece by piece."""

    @property
    def bounds(self) -> NDArray[np.int64]:
        """The rows of piece i are those from `bounds[i]` to before `bounds[i + 1]`, shape (pieces + 1,)."""
        ...

    @property
    def open(self) -> Callable[[int], pa.RecordBatch]:
        """The table of a piece; mapped, and let go with the last reference to it."""
        ...

    def table(self) -> pa.Table:
        """All of it, mapped."""
        ...


class Notes(Protocol):
    """What comparisons of a dataset's rows keep for the next version of it."""

    @property
    def found(self) -> Callable[[str], pa.RecordBatch | None]:
        """What was kept under a name before."""
        ...

    @property
    def keep(self) -> Callable[[str, pa.RecordBatch], None]:
        """Keep something under a name."""
        ...


class Parts(Protocol):
    """What is known of the rows of each piece, by the number of the piece."""

    @property
    def signatures(self) -> Callable[[int], pa.RecordBatch]:
        """What the step signed."""
        ...

    @property
    def keys(self) -> Sequence[str]:
        """Of the signatures; equal keys have equal rows and signatures."""
        ...


class Signed(Protocol):
    """The rows that a comparison sees, by what its step signed of each. A row's place is its number among them.

    Rows stand in the order of the input, but a comparison must not depend on it: order by `ranks`.
    """

    @property
    def notes(self) -> Notes:
        """What was known before."""
        ...

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The rows' numbers in the whole input, ascending; shape (rows,)."""
        ...

    @property
    def starts(self) -> NDArray[np.int64]:
        """Number of the first row of each piece, and the number of all rows; shape (pieces + 1,)."""
        ...

    @property
    def parts(self) -> Parts:
        """What is known of the rows of each piece, also of rows that are not among these."""
        ...

    def __len__(self) -> int:
        """How many rows."""
        ...

    def numbered(self, numbers: NDArray[np.int64]) -> Signed:
        """Rows by their numbers in the whole input, ascending; also such as are not left."""
        ...

    def places(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of rows by their numbers; all are among these."""
        ...

    def only(self, places: NDArray[np.int64]) -> Signed:
        """Some of the rows, by themselves; `places` ascend, and place p there is `places[p]` here."""
        ...

    def array(self, name: str) -> NDArray[Any]:
        """A column of numbers, shape (rows,); of lists of one size, shape (rows, size). Read it, never write to it."""
        ...

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of the signatures; `id` and `source` of the rows are always among them."""
        ...

    def in_split(self, split: str) -> NDArray[np.bool_]:
        """Which rows are in a split, shape (rows,)."""
        ...

    def origins(self) -> NDArray[np.int32]:
        """Which of the datasets read each row is from, shape (rows,)."""
        ...

    def ranks(self, *keys: NDArray[Any]) -> NDArray[np.int64]:
        """The place of each row in their order by the keys (smallest first), then id, then source, then place."""
        ...

    def first_of_each(self, firsts: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each row the one of its group that `ranks` without a key puts first, shape (rows,).

        Args:
            firsts: for each row the place of the first one of its group.
        """
        ...

    def revisit(
        self,
        name: str,
        look: Callable[[pa.RecordBatch], pa.RecordBatch],
        places: NDArray[np.int64],
        columns: Sequence[str] = (),
    ) -> Looked:
        """What `look`, a pure and picklable function, sees in some rows: one row each, in the order of the places.

        Args:
            name: of what is looked for; with the settings of the step it says what `look` does.
            look: called with batches of rows.
            places: ascending.
            columns: that it reads; none where it may read all.
        """
        ...


@runtime_checkable
class Comparer(Protocol):
    """Compares rows with each other, by a signature of each."""

    def sign(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """What the comparison needs of each row, a row for each; a pure function, so that it is remembered."""
        ...

    def compare(self, signed: Signed) -> Sequence[Verdicts] | Assignment | Copies:
        """Which rows leave, each at most once; or the split of every row; or how often every row is there."""
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


class Grader(Protocol):
    """Gives rows scores."""

    def score(self, batch: pa.RecordBatch) -> Scores:
        """The scores of the rows."""
        ...


@runtime_checkable
class Scorer(Grader, Protocol):
    """Gives rows scores, at a price: it sees only the rows that are left, and what it said is kept across attempts."""

    @property
    def name(self) -> str:
        """Under which its remarks stand in the rows."""
        ...

    def recall(self, scores: Scores) -> None:
        """Hear what it said of some rows in an attempt before."""
        ...

    def finish(self) -> Mapping[str, Any]:
        """After the last row: what there is to say of the scores, as JSON values."""
        ...


@runtime_checkable
class Assigner(Protocol):
    """Puts rows into splits."""

    def assign(self, batch: pa.RecordBatch) -> Sequence[str]:
        """The split of each row."""
        ...


Runnable = RowFilter | Rewriter | Comparer | Scorer | Assigner
