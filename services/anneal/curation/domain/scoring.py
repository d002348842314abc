"""Scores of the rows of a piece: kept as a part, and given to the rows when they are needed next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.pieces import replaced
from anneal.curation.domain.scores import scored
from anneal.curation.domain.steps.base import Scores

_VALUE, _NOTE, _CAUSE = "value:", "note:", "cause"


def part_of(scores: Scores) -> pa.RecordBatch:
    """Scores as a table, one row for each row scored."""
    columns = {f"{_VALUE}{name}": values for name, values in scores.values.items()}
    columns |= {f"{_NOTE}{name}": pa.array(list(notes), type=pa.string()) for name, notes in scores.notes.items()}
    columns[_CAUSE] = pa.array(list(scores.causes), type=pa.string())
    return pa.RecordBatch.from_pydict(columns)


def scores_of(part: pa.RecordBatch) -> Scores:
    """The scores in a table."""
    named = {name: part.column(name) for name in part.schema.names}
    return Scores(
        values={name.removeprefix(_VALUE): column for name, column in named.items() if name.startswith(_VALUE)},
        causes=named[_CAUSE].to_pylist(),
        notes={name.removeprefix(_NOTE): col.to_pylist() for name, col in named.items() if name.startswith(_NOTE)},
    )


@dataclass(frozen=True, slots=True)
class Scoring:
    """Gives rows of a piece the scores they got.

    Attributes:
        step: by which step.
        places: the rows that were scored, ascending.
        part: their scores.
    """

    step: str
    places: NDArray[np.int64]
    part: pa.RecordBatch

    def __call__(self, batch: pa.RecordBatch, places: NDArray[np.int64]) -> pa.RecordBatch:
        """Rows, by their places in the piece, with their scores."""
        here = np.flatnonzero(np.isin(places, self.places))
        if not len(here):
            return batch
        part = self.part.take(pa.array(np.searchsorted(self.places, places[here])))
        return replaced(batch, here, scored(batch.take(pa.array(here)), scores_of(part), self.step))
