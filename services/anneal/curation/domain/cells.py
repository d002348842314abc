"""Which rows of a cell repeat another, by the cosine of their vectors; a block of the matrix in memory at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

_BLOCK_ROWS = 512
_HASH_ROWS = 4_096
_SEED = 7


@dataclass(frozen=True, slots=True)
class Repeats:
    """Rows that leave, by their places in the cell.

    Attributes:
        rows: ascending, shape (rows,).
        by: the row each repeats: the one that stays where the two are alike, else the likest before it, or after it.
        first: the row of the group that stays.
        similarities: cosine of `rows` and `by`.
    """

    rows: NDArray[np.int64]
    by: NDArray[np.int64]
    first: NDArray[np.int64]
    similarities: NDArray[np.float32]


def repeats_in(vectors: F32, threshold: float) -> Repeats:
    """Group the rows that pairs of at least the threshold connect; the first row of each group stays.

    Args:
        vectors: of unit length, shape (rows, dimension), the rows to keep first.
        threshold: lowest cosine of a pair.
    """
    rows = len(vectors)
    first = np.arange(rows)
    by = np.zeros(rows, dtype=np.int64)
    best = np.full(rows, -np.inf, dtype=np.float32)
    for start in range(0, rows, _BLOCK_ROWS):
        end = min(start + _BLOCK_ROWS, rows)
        cosines = vectors[start:end] @ vectors[:end].T
        cosines[np.arange(end)[None, :] >= np.arange(start, end)[:, None]] = -np.inf
        by[start:end] = cosines.argmax(axis=1)
        best[start:end] = cosines[np.arange(end - start), by[start:end]]
        pairs = np.argwhere(cosines >= threshold)
        first = _merged(first, pairs[:, 0] + start, pairs[:, 1])
    leaves = np.flatnonzero(first != np.arange(rows))
    for row in leaves[best[leaves] < threshold].tolist():
        cosines = vectors[row + 1 :] @ vectors[row]
        by[row] = row + 1 + int(cosines.argmax())
        best[row] = cosines.max()
    to_first = np.einsum("ij,ij->i", vectors[leaves], vectors[first[leaves]])
    near = leaves[to_first >= threshold]
    by[near], best[near] = first[near], to_first[to_first >= threshold]
    return Repeats(leaves, by[leaves], first[leaves], np.minimum(best[leaves], np.float32(1)))


def _merged(first: NDArray[np.int64], some: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first row of each row's group, after some rows were connected with others."""
    while True:
        low, high = np.minimum(first[some], first[others]), np.maximum(first[some], first[others])
        if (low == high).all():
            return first
        roots = np.arange(len(first))
        np.minimum.at(roots, high, low)
        while (roots[roots] != roots).any():
            roots = roots[roots]
        first = roots[first]


def heads_of(stored: NDArray[np.float16], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each row of an order the first row in it that has the same vector, shape (rows,).

    Args:
        stored: vectors, shape (stored, dimension).
        order: places of some of them, those to keep first.
    """
    weights = np.random.default_rng(_SEED).integers(1, 1 << 63, (stored.shape[1], 2), dtype=np.uint64) | np.uint64(1)
    prints = np.empty((len(order), 2), dtype=np.uint64)
    for start in range(0, len(order), _HASH_ROWS):
        block = np.ascontiguousarray(stored[order[start : start + _HASH_ROWS]])
        prints[start : start + _HASH_ROWS] = block.view(np.uint16).astype(np.uint64) @ weights
    _, opens, group = np.unique(prints, axis=0, return_index=True, return_inverse=True)
    return order[opens[group.reshape(-1)]]
