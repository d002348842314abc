"""True Jaccard similarities of pairs of shingle sets, many at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anneal.curation.domain.words import Ragged

_CHUNK_ELEMENTS = 1 << 22
_ROW_BITS = np.uint64(32)


class ShingleSets:
    """Sets of shingles, to be compared in pairs.

    A shingle is known by 64 bits: two of 10^8 different ones are equal by chance in fewer than 1 of 1,000 data sets.
    """

    def __init__(self, shingles: Ragged) -> None:
        """Keep the sets.

        Args:
            shingles: those of each row; repeated ones count once.
        """
        rows = np.repeat(np.arange(len(shingles.lengths), dtype=np.uint64), shingles.lengths)
        _, codes = np.unique(shingles.values, return_inverse=True)
        # A set's elements stand together and in order, each with its row in the upper half.
        self._elements = np.unique((rows << _ROW_BITS) | codes.astype(np.uint64))
        owners = (self._elements >> _ROW_BITS).astype(np.int64)
        self.sizes: NDArray[np.int64] = np.bincount(owners, minlength=len(shingles.lengths))
        self._offsets = np.concatenate(([0], np.cumsum(self.sizes)))

    def jaccard(self, pairs: NDArray[np.int64], at_least: float) -> NDArray[np.float64]:
        """The similarity of each pair of rows, shape (pairs,); 0 for pairs that cannot reach `at_least`."""
        similarities = np.zeros(len(pairs))
        sizes = self.sizes[pairs]
        small, large = sizes.min(axis=1, initial=1 << 62), sizes.max(axis=1, initial=0)
        hopeful = np.flatnonzero((large > 0) & (small >= at_least * large))
        start = 0
        costs = np.cumsum(small[hopeful])
        while start < len(hopeful):
            spent = costs[start - 1] if start else 0
            end = max(int(np.searchsorted(costs, spent + _CHUNK_ELEMENTS, side="right")), start + 1)
            chosen = hopeful[start:end]
            common = self._common(pairs[chosen])
            similarities[chosen] = common / (sizes[chosen].sum(axis=1) - common)
            start = end
        return similarities

    def _common(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        swapped = self.sizes[pairs[:, 0]] > self.sizes[pairs[:, 1]]
        small = np.where(swapped, pairs[:, 1], pairs[:, 0])
        large = np.where(swapped, pairs[:, 0], pairs[:, 1]).astype(np.uint64)
        counts = self.sizes[small]
        ends = np.cumsum(counts)
        places = np.arange(ends[-1]) - np.repeat(ends - counts, counts) + np.repeat(self._offsets[small], counts)
        low = np.uint64((1 << 32) - 1)
        wanted = (self._elements[places] & low) | (np.repeat(large, counts) << _ROW_BITS)
        found = np.minimum(np.searchsorted(self._elements, wanted), len(self._elements) - 1)
        hits = self._elements[found] == wanted
        return np.bincount(np.repeat(np.arange(len(pairs)), counts), weights=hits, minlength=len(pairs)).astype(
            np.int64
        )
