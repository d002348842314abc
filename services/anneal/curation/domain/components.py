"""Connected components of similar rows, and the row by which each member is reached."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anneal.curation.domain.candidates import Pairs, distinct


@dataclass(frozen=True, slots=True)
class Reached:
    """The rows that are not the first of their component, each once, in columns of shape (reached,).

    Attributes:
        rows: the rows.
        by: a row similar to each: the component's first where that is, else one nearer to it.
        similarities: of the two.
        firsts: the component's first row.
    """

    rows: NDArray[np.int64]
    by: NDArray[np.int64]
    similarities: NDArray[np.float64]
    firsts: NDArray[np.int64]


def walk_components(pairs: Pairs, similarities: NDArray[np.float64], ranks: NDArray[np.int64]) -> Reached:
    """Every row of a component but its first: the one of the lowest rank.

    Components are walked breadth first from their first, nearer neighbours of equal depth in rank order: that finds
    them in time linear in the pairs, and gives every row the shortest way to the first.

    Args:
        pairs: similar rows, shape (pairs, 2), each pair once.
        similarities: of each pair, shape (pairs,).
        ranks: an order of the rows; no two are equal.
    """
    from anneal.curation.domain.kernels.pairs import walk

    rows = distinct(pairs.ravel())
    rows = rows[np.argsort(ranks[rows])]
    # From here on rows are nodes: numbered by rank, and only those that have a pair.
    node_of = np.empty(len(ranks), dtype=np.int64)
    node_of[rows] = np.arange(len(rows))
    left, right = node_of[pairs].T
    sources, targets = np.concatenate((left, right)), np.concatenate((right, left))
    order = np.argsort(sources * len(rows) + targets)
    starts = np.searchsorted(sources[order], np.arange(len(rows) + 1))
    reached, by, similar, first = walk(starts, targets[order], order % max(len(pairs), 1), similarities)
    return Reached(rows[reached], rows[by], similar, rows[first])
