"""True Jaccard similarities of pairs of shingle sets, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anneal.curation.domain.words import Ragged
from anneal.kit.sides import side_by_side

Numbers = NDArray[np.int64]
TILE = 64
MOST_PAIRS = 8192
"""More are not compared in one go: where most pairs are of one part, one thread would work and the others wait."""


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
    return ShingleSets.of([Ragged(values, offsets)]).jaccard(pairs[:, 0], pairs[:, 1], at_least)


class ShingleSets:
    """Sets of shingles in several parts, to be compared in pairs.

    A shingle is known by 64 bits: two of 10^8 different ones are equal by chance in fewer than 1 of 1,000 data sets.
    """

    def __init__(self, bounds: NDArray[np.int64], open_part: Callable[[int], Ragged]) -> None:
        """Keep where the sets are.

        Args:
            bounds: the sets of part i are those from `bounds[i]` to before `bounds[i + 1]`.
            open_part: the sets of a part, within each ascending and each once, as `shingle_sets` has them. They may be
                mapped from a file: no more than `4 * TILE` parts are open at a time.
        """
        self._bounds, self._open = bounds, open_part
        self._part_of = np.repeat(np.arange(len(bounds) - 1, dtype=np.int32), np.diff(bounds))

    @classmethod
    def of(cls, parts: Sequence[Ragged]) -> ShingleSets:
        """Sets in memory."""
        return cls(np.cumsum([0, *(len(part.offsets) - 1 for part in parts)]), parts.__getitem__)

    def jaccard(self, left: Numbers, right: Numbers, at_least: float) -> NDArray[np.float64]:
        """The similarity of each pair of a left and a right set, shape (pairs,); 0 where it cannot reach `at_least`."""
        from anneal.curation.domain.kernels.pairs import jaccard

        similarities = np.zeros(len(left))

        def compare(group: _Group) -> None:
            one, other = group.left, group.right
            similarities[group.chosen] = jaccard(
                one.values, one.offsets, other.values, other.offsets, group.places, at_least
            )

        for _ in side_by_side(compare, self._groups(left, right)):
            pass
        return similarities

    def _groups(self, left: Numbers, right: Numbers) -> Iterator[_Group]:
        """The pairs, tile by tile, so that few parts are open; the next tile is prepared while one is compared."""
        tiles = self._part_of[left] // TILE * len(self._bounds) + self._part_of[right] // TILE
        order = np.argsort(tiles, kind="stable")
        for chosen in np.split(order, np.flatnonzero(np.diff(tiles[order])) + 1) if len(order) else ():
            pairs = np.stack((left[chosen], right[chosen]), axis=1)
            parts = self._part_of[pairs]
            places = pairs - self._bounds[parts]
            opened = {part: self._open(part) for part in np.unique(parts).tolist()}
            # Pairs of the same two parts are compared in one go, or in several where there are many.
            same = parts[:, 0].astype(np.int64) * len(self._bounds) + parts[:, 1]
            within = np.argsort(same, kind="stable")
            many = np.arange(MOST_PAIRS, len(within), MOST_PAIRS)
            for group in np.split(within, np.union1d(np.flatnonzero(np.diff(same[within])) + 1, many)):
                one, other = parts[group[0]].tolist()
                yield _Group(opened[one], opened[other], places[group], chosen[group])


class _Group(NamedTuple):
    """Pairs of sets of two parts.

    Attributes:
        left: the part of the left sets.
        right: the part of the right sets.
        places: of the sets within those, shape (pairs, 2).
        chosen: which pairs they are.
    """

    left: Ragged
    right: Ragged
    places: NDArray[np.int64]
    chosen: Numbers
