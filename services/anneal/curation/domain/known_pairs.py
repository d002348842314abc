"""Similarities of pairs of texts that were verified before, by the fingerprints of the texts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def pair_keys(prints: NDArray[np.uint64], pairs: NDArray[np.int64]) -> NDArray[np.uint64]:
    """128 bits for each pair, whichever of the two comes first; shape (pairs, 2).

    Args:
        prints: fingerprint of each row, shape (rows, 2).
        pairs: rows, shape (pairs, 2).
    """
    left, right = prints[pairs[:, 0]], prints[pairs[:, 1]]
    return _mixed(_mixed(left) + _mixed(right) + _GOLDEN * (left ^ right))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class KnownPairs:
    """Pairs and their similarities, sorted by key."""

    def __init__(self, keys: NDArray[np.uint64], similarities: NDArray[np.float64]) -> None:
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        self._keys, self._similarities = keys[order], similarities[order]

    @classmethod
    def of(cls, part: pa.RecordBatch | None) -> KnownPairs:
        """Those of a part; none where there is none."""
        if part is None:
            return cls(np.zeros((0, 2), dtype=np.uint64), np.zeros(0))
        keys = np.stack([part.column(name).to_numpy() for name in ("high", "low")], axis=1)
        return cls(keys, part.column("similarity").to_numpy())

    def part(self) -> pa.RecordBatch:
        """The pairs as a part."""
        columns = (np.ascontiguousarray(self._keys[:, half]) for half in range(2))
        arrays = [*(pa.array(column) for column in columns), pa.array(self._similarities)]
        return pa.RecordBatch.from_arrays(arrays, names=["high", "low", "similarity"])

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.float64]:
        """The similarity of each pair, NaN where it is not known; shape (pairs,)."""
        found = np.full(len(keys), np.nan)
        if len(self._keys):
            places = np.minimum(np.searchsorted(self._keys[:, 0], keys[:, 0]), len(self._keys) - 1)
            hits = (self._keys[places] == keys).all(axis=1)
            found[hits] = self._similarities[places[hits]]
        return found
