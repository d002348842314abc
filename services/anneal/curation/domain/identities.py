"""Which of several equal rows stays: an order of rows that does not depend on where they stand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class Identities:
    """The ids of the rows seen, and the order they give: by length (longest first) where asked, then id, then source.

    Rows equal in all of these have the same content and origin; among them the first stays.
    """

    def __init__(self) -> None:
        self._ids: list[pa.Array] = []
        self._sources: list[pa.Array] = []
        self._numbers: list[NDArray[np.int64]] = []

    def add(self, numbers: NDArray[np.int64], batch: pa.RecordBatch) -> None:
        """Remember rows."""
        self._numbers.append(numbers)
        self._ids.append(batch.column("id").cast(pa.large_string()))
        self._sources.append(pc.fill_null(batch.column("source"), "").cast(pa.large_string()).dictionary_encode())

    def numbers(self) -> NDArray[np.int64]:
        """The rows' places in the whole input, in the order seen."""
        return np.concatenate([np.zeros(0, dtype=np.int64), *self._numbers])

    def ids(self) -> pa.ChunkedArray:
        """The ids in the order seen."""
        return pa.chunked_array(self._ids, type=pa.large_string())

    def ranks(self, lengths: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The place of each row in the order, 0 first; shape (rows,)."""
        numbers = self.numbers()
        sources = pa.chunked_array([part.cast(pa.large_string()) for part in self._sources], type=pa.large_string())
        first = np.zeros(len(numbers), dtype=np.int64) if lengths is None else -lengths
        table = pa.table({"first": first, "id": self.ids(), "source": sources, "number": numbers})
        keys = [(name, "ascending") for name in table.column_names]
        order = pc.sort_indices(table, sort_keys=keys).to_numpy()
        ranks = np.empty(len(numbers), dtype=np.int64)
        ranks[order] = np.arange(len(numbers))
        return ranks
