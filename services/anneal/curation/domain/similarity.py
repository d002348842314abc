"""True Jaccard similarities of pairs of shingle sets, many at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anneal.curation.domain.sides import side_by_side
from anneal.curation.domain.words import Ragged


def jaccard(
    values: NDArray[np.uint64], offsets: NDArray[np.int64], pairs: NDArray[np.int64], at_least: float
) -> NDArray[np.float64]:
    """The similarity of each pair of sets, shape (pairs,); 0 for pairs that cannot reach `at_least`.

    Sets are merged side by side, and given up once too little is left of them; nothing but the result is allocated.

    Args:
        values: the elements of all sets; within each ascending and each once. May be mapped from a file.
        offsets: set s is `values[offsets[s] : offsets[s + 1]]`.
        pairs: two sets each, shape (pairs, 2).
        at_least: the similarity that matters, above 0.
    """
    return ShingleSets([Ragged(values, offsets)]).jaccard(pairs, at_least)


class ShingleSets:
    """Sets of shingles in several pieces, to be compared in pairs.

    A shingle is known by 64 bits: two of 10^8 different ones are equal by chance in fewer than 1 of 1,000 data sets.
    """

    def __init__(self, parts: Sequence[Ragged]) -> None:
        """Keep the sets, without copying them; set s is the s-th of all parts.

        Args:
            parts: within each row ascending and each once, as `shingle_sets` has them. May be mapped from files.
        """
        self._parts = [(np.asarray(part.values), np.asarray(part.offsets)) for part in parts]
        self._firsts = np.cumsum([0, *(len(offsets) - 1 for _, offsets in self._parts)])

    def jaccard(self, pairs: NDArray[np.int64], at_least: float) -> NDArray[np.float64]:
        """The similarity of each pair of sets, shape (pairs,); 0 for pairs that cannot reach `at_least`."""
        from anneal.curation.domain.kernels.pairs import jaccard

        similarities = np.zeros(len(pairs))
        if not len(pairs):
            return similarities
        parts = np.searchsorted(self._firsts, pairs, side="right") - 1
        places = pairs - self._firsts[parts]
        # Pairs of the same two pieces are compared in one go.
        groups = parts[:, 0] * len(self._parts) + parts[:, 1]
        order = np.argsort(groups, kind="stable")

        def compare(chosen: NDArray[np.int64]) -> None:
            (left, left_offsets), (right, right_offsets) = (self._parts[part] for part in parts[chosen[0]])
            similarities[chosen] = jaccard(left, left_offsets, right, right_offsets, places[chosen], at_least)

        for _ in side_by_side(compare, np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)):
            pass
        return similarities
