"""Connected components of similar rows, and the row by which each member is reached."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Reached:
    """A row of a component that is not its first.

    Attributes:
        row: the row.
        by: a row similar to it: the component's first where that is, else one nearer to it.
        similarity: of the two.
        first: the component's first row.
    """

    row: int
    by: int
    similarity: float
    first: int


def walk_components(
    pairs: NDArray[np.int64], similarities: NDArray[np.float64], ranks: NDArray[np.int64]
) -> Iterator[Reached]:
    """Every row of a component but its first: the one of the lowest rank.

    Args:
        pairs: similar rows, shape (pairs, 2).
        similarities: of each pair.
        ranks: an order of the rows; no two are equal.
    """
    both = np.concatenate((pairs, pairs[:, ::-1]))
    twice = np.concatenate((similarities, similarities))
    order = np.lexsort((ranks[both[:, 1]], ranks[both[:, 0]]))
    near: dict[int, list[tuple[int, float]]] = {}
    for (row, other), similarity in zip(both[order].tolist(), twice[order].tolist(), strict=True):
        near.setdefault(row, []).append((other, similarity))
    # The dict holds rows by rank, so each component is entered at its first.
    seen: set[int] = set()
    for first in near:
        if first in seen:
            continue
        seen.add(first)
        waiting = deque([first])
        while waiting:
            row = waiting.popleft()
            for other, similarity in near[row]:
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
                    yield Reached(other, row, similarity, first)
