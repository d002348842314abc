"""Vectors into cells of alike ones: seeded, and blind to the order of rows but the one it is given.

Whoever calls orders rows by their ids, so that the same rows fall into the same cells wherever they stood.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anneal.curation.domain.errors import TooManyRows

Method = Literal["kmeans", "hdbscan", "agglomerative"]

MAX_QUADRATIC_ROWS = 10_000
"""Most rows for HDBSCAN and agglomerative clustering: their time and memory grow with the square."""
MAX_CLUSTERS = 4_096
FIT_ROWS = 32_768
FIT_ROWS_PER_CLUSTER = 40
"""Centres are learned from so many rows, or so many for each where that is more: from the first ones, which are as good
as random where ids are digests."""
MIN_CLUSTER_ROWS = 5
_BLOCK_ROWS = 8_192
_SEED = 20_230_316

F32 = NDArray[np.float32]


class Vectors:
    """Rows of vectors that are read a block at a time, in a given order."""

    def __init__(self, stored: NDArray[np.floating], order: NDArray[np.int64]) -> None:
        """See stored vectors, shape (stored, dimension), in an order of some of them, shape (rows,)."""
        self._stored, self._order = stored, order

    def __len__(self) -> int:
        """How many rows."""
        return len(self._order)

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where some rows are stored."""
        return self._order[rows]

    def within(self, rows: NDArray[np.int64]) -> Vectors:
        """Some of the rows."""
        return Vectors(self._stored, self._order[rows])

    def take(self, rows: NDArray[np.int64] | slice) -> F32:
        """Some rows, as float32 and of unit length again: what is stored may be rounded."""
        found = np.asarray(self._stored[self._order[rows]], dtype=np.float32)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        made: F32 = np.divide(found, lengths, out=np.zeros_like(found), where=lengths > 0)
        return made

    def blocks(self) -> Iterator[tuple[slice, F32]]:
        """All rows, a block at a time."""
        for first in range(0, len(self), _BLOCK_ROWS):
            block = slice(first, min(first + _BLOCK_ROWS, len(self)))
            yield block, self.take(block)


def cells_of(vectors: Vectors, method: Method, clusters: int) -> NDArray[np.int64]:
    """The cell of each row, shape (rows,).

    Args:
        vectors: of unit length, in an order that is a function of the rows.
        method: `kmeans` (mini-batch; Sculley 2010, WWW), `hdbscan` (Campello et al. 2013; rows it calls noise share a
            cell) or `agglomerative` (Ward's).
        clusters: how many, for `kmeans` and `agglomerative`; 0 takes the square root of the rows.

    Raises:
        TooManyRows: more than `MAX_QUADRATIC_ROWS`, and the method compares all of them.
    """
    rows = len(vectors)
    wanted = min(clusters or round(rows**0.5), MAX_CLUSTERS, max(rows, 1))
    if rows < 2 * MIN_CLUSTER_ROWS or (wanted < 2 and method != "hdbscan"):
        return np.zeros(rows, dtype=np.int64)
    if method == "kmeans":
        return _nearest(vectors, _centres(vectors, wanted))
    if rows > MAX_QUADRATIC_ROWS:
        raise TooManyRows(
            f"{method} clusters at most {MAX_QUADRATIC_ROWS:,} rows, here are {rows:,}: use kmeans, or sample before",
            rows=str(rows),
            allowed=str(MAX_QUADRATIC_ROWS),
        )
    from sklearn.cluster import HDBSCAN, AgglomerativeClustering

    if method == "hdbscan":
        found = HDBSCAN(min_cluster_size=MIN_CLUSTER_ROWS, copy=True).fit_predict(vectors.take(slice(None)))
        return np.asarray(found + 1, dtype=np.int64)
    tree = AgglomerativeClustering(n_clusters=wanted, linkage="ward")
    return np.asarray(tree.fit_predict(vectors.take(slice(None))), dtype=np.int64)


def split_cells(vectors: Vectors, cells: NDArray[np.int64], max_rows: int) -> Iterator[NDArray[np.int64]]:
    """The rows of each cell, ascending; a cell above the limit is clustered again, at last cut.

    Args:
        vectors: the rows.
        cells: the cell of each, shape (rows,).
        max_rows: most rows of a cell.
    """
    order = np.argsort(cells, kind="stable")
    bounds = np.flatnonzero(np.diff(cells[order])) + 1
    for rows in np.split(order, bounds):
        yield from _parted(vectors, rows, max_rows)


def _parted(vectors: Vectors, rows: NDArray[np.int64], max_rows: int) -> Iterator[NDArray[np.int64]]:
    if len(rows) <= max_rows:
        yield rows
        return
    within = vectors.within(rows)
    cells = _nearest(within, _centres(within, min(2 * -(-len(rows) // max_rows), MAX_CLUSTERS)))
    if np.bincount(cells).max() > 0.9 * len(rows):
        # Rows that no centre tells apart.
        for first in range(0, len(rows), max_rows):
            yield rows[first : first + max_rows]
        return
    for cell in np.unique(cells):
        yield from _parted(vectors, rows[cells == cell], max_rows)


def _centres(vectors: Vectors, clusters: int) -> F32:
    """Centres of unit length, shape (at most clusters, dimension)."""
    from sklearn.cluster import MiniBatchKMeans

    shown = vectors.take(slice(0, max(FIT_ROWS, FIT_ROWS_PER_CLUSTER * clusters)))
    different = len(np.unique(shown[: 4 * clusters], axis=0))
    model = MiniBatchKMeans(
        n_clusters=min(clusters, different), batch_size=2_048, n_init=1, max_iter=10, random_state=_SEED
    ).fit(shown)
    centres = np.asarray(model.cluster_centers_, dtype=np.float32)
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    made: F32 = np.divide(centres, lengths, out=np.zeros_like(centres), where=lengths > 0)
    return made


def _nearest(vectors: Vectors, centres: F32) -> NDArray[np.int64]:
    cells = np.empty(len(vectors), dtype=np.int64)
    for block, shown in vectors.blocks():
        cells[block] = np.argmax(shown @ centres.T, axis=1)
    return cells
