"""Pairs of rows: those that share a band, how similar they are, and what they connect."""

from __future__ import annotations

from typing import Any

import numpy as np

from anneal.curation.domain.kernels.base import F64, FLOAT, I64, I64_2D, INT, U64, helper, kernel

_ONE, _6, _32, _63 = np.uint64(1), np.uint64(6), np.uint64(32), np.uint64(63)
_LOW_32 = np.uint64(0xFFFFFFFF)
_SPREAD = np.uint64(0xD6E8FEB86659FD93)


@kernel(U64, I64)
def sharing(keys: Any, by_rank: Any) -> Any:
    """Ranks of the rows whose key another row may have, ascending: all that share one, and some that do not.

    A key sets one of eight bits or more per row; a row whose bit two rows set is among them.
    """
    rows = len(keys)
    width = 6
    while (1 << width) < 8 * rows:
        width += 1
    shift = np.uint64(64 - width)
    once, twice = np.zeros(1 << (width - 6), np.uint64), np.zeros(1 << (width - 6), np.uint64)
    for row in range(rows):
        place = (keys[row] * _SPREAD) >> shift
        bit = _ONE << (place & _63)
        twice[place >> _6] |= once[place >> _6] & bit
        once[place >> _6] |= bit
    ranks = np.empty(rows, np.int64)
    count = 0
    for rank in range(rows):
        place = (keys[by_rank[rank]] * _SPREAD) >> shift
        ranks[count] = rank
        count += int((twice[place >> _6] >> (place & _63)) & _ONE)
    return ranks[:count].copy()


@kernel(U64, I64, INT)
def in_buckets(keys: Any, ranks: Any, neighbours: Any) -> Any:
    """The pairs of rows of equal key: each row with its bucket's first and the last few before it, in rank order.

    Args:
        keys: ascending.
        ranks: of the row of each key.
        neighbours: how many before it.

    Returns:
        Lower rank << 32 | higher rank, each once, shape (pairs,).
    """
    count = len(keys)
    members = ranks.copy()
    total, start = 0, 0
    for i in range(1, count + 1):
        if i == count or keys[i] != keys[start]:
            members[start:i].sort()
            for size in range(1, i - start):
                total += 1 + min(size - 1, neighbours)
            start = i
    pairs = np.empty(total, np.uint64)
    at, start = 0, 0
    for i in range(1, count):
        if keys[i] != keys[start]:
            start = i
            continue
        pairs[at] = (np.uint64(members[start]) << _32) | np.uint64(members[i])
        at += 1
        for near in range(max(start + 1, i - neighbours), i):
            pairs[at] = (np.uint64(members[near]) << _32) | np.uint64(members[i])
            at += 1
    return pairs


@kernel(U64, U64)
def united(left: Any, right: Any) -> Any:
    """Two ascending arrays without repetition as one."""
    out = np.empty(len(left) + len(right), np.uint64)
    i, j, at = 0, 0, 0
    while i < len(left) and j < len(right):
        a, b = left[i], right[j]
        out[at] = min(a, b)
        i += int(a <= b)
        j += int(b <= a)
        at += 1
    while i < len(left):
        out[at] = left[i]
        i, at = i + 1, at + 1
    while j < len(right):
        out[at] = right[j]
        j, at = j + 1, at + 1
    return out[:at].copy() if at < len(out) else out


@helper
def _common(left: Any, i: Any, left_end: Any, right: Any, j: Any, right_end: Any, needed: Any) -> Any:
    """How many elements two ascending runs share; -1 as soon as it cannot be as many as needed."""
    common = 0
    while i < left_end and j < right_end:
        if common + min(left_end - i, right_end - j) < needed:
            return -1
        a, b = left[i], right[j]
        common += int(a == b)
        i += int(a <= b)
        j += int(b <= a)
    return common


@kernel(U64, I64, U64, I64, I64_2D, FLOAT)
def jaccard(left: Any, left_offsets: Any, right: Any, right_offsets: Any, pairs: Any, at_least: Any) -> Any:
    """The Jaccard similarity of a left and a right set per pair, shape (pairs,); 0 where it cannot reach `at_least`.

    |A & B| / |A | B| >= t holds if and only if |A & B| >= t (|A| + |B|) / (1 + t); fewer are given up.
    """
    similarities = np.zeros(len(pairs), np.float64)
    for pair in range(len(pairs)):
        i, left_end = left_offsets[pairs[pair, 0]], left_offsets[pairs[pair, 0] + 1]
        j, right_end = right_offsets[pairs[pair, 1]], right_offsets[pairs[pair, 1] + 1]
        size = left_end - i + right_end - j
        if size == 0:
            continue
        needed = np.int64(at_least * size / (1.0 + at_least))
        common = _common(left, i, left_end, right, j, right_end, needed)
        if common > 0:
            similarities[pair] = common / (size - common)
    return similarities


@kernel(I64, I64, I64, F64)
def walk(starts: Any, near: Any, edges: Any, similarities: Any) -> Any:
    """Walk every component breadth first from its lowest node; nodes come in the order in which they are reached.

    Args:
        starts: the neighbours of node v are `near[starts[v] : starts[v + 1]]`, ascending.
        near: neighbours.
        edges: number of the edge to each neighbour.
        similarities: of each edge.

    Returns:
        Of each node that is not its component's first: itself, the node it is reached by, the similarity, the first.
    """
    nodes = len(starts) - 1
    seen = np.zeros(nodes, np.bool_)
    reached, by, first = np.empty(nodes, np.int64), np.empty(nodes, np.int64), np.empty(nodes, np.int64)
    similarity = np.empty(nodes, np.float64)
    count = 0
    for entry in range(nodes):
        if seen[entry]:
            continue
        seen[entry] = True
        node, waiting = entry, count
        while True:
            for place in range(starts[node], starts[node + 1]):
                other = near[place]
                if not seen[other]:
                    seen[other] = True
                    reached[count], by[count], first[count] = other, node, entry
                    similarity[count] = similarities[edges[place]]
                    count += 1
            if waiting == count:
                break
            node = reached[waiting]
            waiting += 1
    return reached[:count], by[:count], similarity[:count], first[:count]
