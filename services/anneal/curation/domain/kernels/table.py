"""A hash table from 64-bit keys to numbers, for many look-ups of which few hit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anneal.curation.domain.kernels.base import I64, U32, U64, helper, kernel

_SPREAD = np.uint64(0xD6E8FEB86659FD93)
_ONE, _6, _63, _64 = np.uint64(1), np.uint64(6), np.uint64(63), np.uint64(64)
# 2 to 4 slots and 16 to 32 bits per key: at most 1 bit in 16 is set, so 15 of 16 misses read one bit and no slot.
_BITS_PER_SLOT = 8


class KeyTable:
    """Finds the number of a key: open addressing with linear probing, behind one bit per key.

    A key costs 34 to 68 bytes. A table never changes, so that threads may share it.
    """

    def __init__(self, keys: NDArray[np.uint64], values: NDArray[np.int64]) -> None:
        """Build the table.

        Args:
            keys: no two are equal.
            values: of each key; none is negative.
        """
        self._keys, self._values, self._bits = build(np.ascontiguousarray(keys), np.ascontiguousarray(values))

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The value of each key, -1 where there is none; shape (keys,)."""
        found: NDArray[np.int64] = find(self._keys, self._values, self._bits, np.ascontiguousarray(keys))
        return found

    def hits(self, keys: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The places, ascending, of keys (uint32 or uint64) that are there, and their values; each of shape (hits,)."""
        if keys.dtype != np.uint32:
            found = self.find(keys)
            places = np.flatnonzero(found >= 0)
            return places, found[places]
        places, values = hits(self._keys, self._values, self._bits, np.ascontiguousarray(keys))
        return places, values


@helper
def _shift(size: Any) -> Any:
    """How far to shift a 64-bit hash for a place among `size`, a power of two above 1."""
    shift = _64
    while size > 1:
        size //= 2
        shift -= _ONE
    return shift


@kernel(U64, I64)
def build(keys: Any, values: Any) -> Any:
    """The slots' keys and values (-1 where free), and the bits of the keys."""
    slots = 64
    while slots < 2 * len(keys):
        slots *= 2
    slot_shift, bit_shift = _shift(slots), _shift(slots * _BITS_PER_SLOT)
    slot_keys, slot_values = np.zeros(slots, np.uint64), np.full(slots, -1, np.int64)
    bits = np.zeros(slots * _BITS_PER_SLOT // 64, np.uint64)
    for i in range(len(keys)):
        spread = keys[i] * _SPREAD
        bit = spread >> bit_shift
        bits[bit >> _6] |= _ONE << (bit & _63)
        slot = np.int64(spread >> slot_shift)
        while slot_values[slot] >= 0:
            slot = (slot + 1) & (slots - 1)
        slot_keys[slot], slot_values[slot] = keys[i], values[i]
    return slot_keys, slot_values, bits


@kernel(U64, I64, U64, U64)
def find(slot_keys: Any, slot_values: Any, bits: Any, keys: Any) -> Any:
    """The value of each key, -1 where there is none; shape (keys,)."""
    slots = len(slot_keys)
    slot_shift, bit_shift = _shift(slots), _shift(slots * _BITS_PER_SLOT)
    found = np.full(len(keys), -1, np.int64)
    for i in range(len(keys)):
        spread = keys[i] * _SPREAD
        bit = spread >> bit_shift
        if not (bits[bit >> _6] >> (bit & _63)) & _ONE:
            continue
        slot = np.int64(spread >> slot_shift)
        while slot_values[slot] >= 0:
            if slot_keys[slot] == keys[i]:
                found[i] = slot_values[slot]
                break
            slot = (slot + 1) & (slots - 1)
    return found


@kernel(U64, I64, U64, U32)
def hits(slot_keys: Any, slot_values: Any, bits: Any, keys: Any) -> Any:
    """The places of keys that are there, and their values. First those whose bit is set, without a branch."""
    slots = len(slot_keys)
    slot_shift, bit_shift = _shift(slots), _shift(slots * _BITS_PER_SLOT)
    places = np.empty(len(keys) + 1, np.int64)
    likely = 0
    for i in range(len(keys)):
        bit = (np.uint64(keys[i]) * _SPREAD) >> bit_shift
        places[likely] = i
        likely += int((bits[bit >> _6] >> (bit & _63)) & _ONE)
    values = np.empty(likely, np.int64)
    count = 0
    for at in range(likely):
        key = np.uint64(keys[places[at]])
        slot = np.int64((key * _SPREAD) >> slot_shift)
        while slot_values[slot] >= 0:
            if slot_keys[slot] == key:
                places[count], values[count] = places[at], slot_values[slot]
                count += 1
                break
            slot = (slot + 1) & (slots - 1)
    return places[:count].copy(), values[:count].copy()
