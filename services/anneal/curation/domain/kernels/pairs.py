"""Pairs of rows: those that share a band, how similar they are, and what they connect."""

from __future__ import annotations

from typing import Any

import numpy as np

from anneal.curation.domain.kernels.base import F64, FLOAT, I64, I64_2D, INT, U8, U32, U64, helper, kernel

_ONE, _6, _32, _63 = np.uint64(1), np.uint64(6), np.uint64(32), np.uint64(63)
_LOW_32 = np.uint64(0xFFFFFFFF)
_SPREAD = np.uint64(0xD6E8FEB86659FD93)


@kernel(U64)
def repeated(values: Any) -> Any:
    """Places, ascending, of the values that another place may have: all that share one, and some that do not.

    A value sets one of eight bits or more per place; a place whose bit two places set is among them.
    """
    count = len(values)
    width = 6
    while (1 << width) < 8 * count:
        width += 1
    shift = np.uint64(64 - width)
    once, twice = np.zeros(1 << (width - 6), np.uint64), np.zeros(1 << (width - 6), np.uint64)
    for i in range(count):
        place = (values[i] * _SPREAD) >> shift
        bit = _ONE << (place & _63)
        twice[place >> _6] |= once[place >> _6] & bit
        once[place >> _6] |= bit
    found = np.empty(count, np.int64)
    kept = 0
    for i in range(count):
        place = (values[i] * _SPREAD) >> shift
        found[kept] = i
        kept += int((twice[place >> _6] >> (place & _63)) & _ONE)
    return found[:kept].copy()


@kernel(U32, I64)
def sharing(keys: Any, rows: Any) -> Any:
    """The rows whose key another row may have: all that share one, and some that do not.

    Keys are looked at in ranges, each with bits that stay in a core's own cache.

    Args:
        keys: random numbers.
        rows: that have them.

    Returns:
        key << 32 | row in ranges of the key, shape (found,), and where each range begins, shape (ranges + 1,).
    """
    shift = _32
    while len(keys) >> 16 >= np.int64(1) << np.int64(_32 - shift) and shift > 0:
        shift -= _ONE
    ranges = np.int64(1) << np.int64(_32 - shift)
    ends = np.zeros(ranges + 1, np.int64)
    for i in range(len(keys)):
        ends[np.int64(np.uint64(keys[i]) >> shift) + 1] += 1
    most = ends.max()
    for part in range(ranges):
        ends[part + 1] += ends[part]
    bounds, next_of = ends.copy(), ends.copy()
    members = np.empty(len(keys), np.uint64)
    for i in range(len(keys)):
        key = np.uint64(keys[i])
        home = np.int64(key >> shift)
        members[next_of[home]] = (key << _32) | np.uint64(rows[i])
        next_of[home] += 1
    width = 6
    while (1 << width) < 8 * most:
        width += 1
    narrow = np.uint64(64 - width)
    once, twice = np.empty(1 << (width - 6), np.uint64), np.empty(1 << (width - 6), np.uint64)
    kept = 0
    for part in range(ranges):
        once[:], twice[:] = 0, 0
        for i in range(bounds[part], bounds[part + 1]):
            place = ((members[i] >> _32) * _SPREAD) >> narrow
            bit = _ONE << (place & _63)
            twice[place >> _6] |= once[place >> _6] & bit
            once[place >> _6] |= bit
        ends[part] = kept
        for i in range(bounds[part], bounds[part + 1]):
            place = ((members[i] >> _32) * _SPREAD) >> narrow
            members[kept] = members[i]
            kept += int((twice[place >> _6] >> (place & _63)) & _ONE)
    ends[ranges] = kept
    return members[:kept].copy(), ends


@kernel(U64, U64, INT)
def in_buckets(members: Any, order: Any, neighbours: Any) -> Any:
    """The pairs of rows of equal key: each row with its bucket's first and the last few before it.

    Args:
        members: key << 32 | row, ascending.
        order: of the rows; the order of a bucket.
        neighbours: how many before it.

    Returns:
        Lower row << 32 | higher row, each once, shape (pairs,).
    """
    count = len(members)
    total, start = 0, 0
    for i in range(1, count + 1):
        if i == count or members[i] >> _32 != members[start] >> _32:
            for size in range(1, i - start):
                total += 1 + min(size - 1, neighbours)
            start = i
    pairs = np.empty(total, np.uint64)
    at, start = 0, 0
    for i in range(1, count + 1):
        if i < count and members[i] >> _32 == members[start] >> _32:
            continue
        rows = members[start:i] & _LOW_32
        if i - start > neighbours + 2:
            # Of fewer every pair is one, whatever their order.
            rows = rows[np.argsort(order[rows], kind="mergesort")]
        for later in range(1, i - start):
            row = rows[later]
            pairs[at] = (min(rows[0], row) << _32) | max(rows[0], row)
            at += 1
            for near in range(max(1, later - neighbours), later):
                pairs[at] = (min(rows[near], row) << _32) | max(rows[near], row)
                at += 1
        start = i
    return pairs


@kernel(U64, U8, U64)
def tallied(codes: Any, counts: Any, more: Any) -> Any:
    """Ascending codes and how often each was met, after some more, ascending and each once."""
    out, times = np.empty(len(codes) + len(more), np.uint64), np.empty(len(codes) + len(more), np.uint8)
    i, j, at = 0, 0, 0
    while i < len(codes) and j < len(more):
        a, b = codes[i], more[j]
        out[at] = min(a, b)
        times[at] = int(a <= b) * counts[i] + int(b <= a)
        i += int(a <= b)
        j += int(b <= a)
        at += 1
    while i < len(codes):
        out[at], times[at] = codes[i], counts[i]
        i, at = i + 1, at + 1
    while j < len(more):
        out[at], times[at] = more[j], 1
        j, at = j + 1, at + 1
    return out[:at].copy(), times[:at].copy()


@kernel(U64, U64)
def firsts_of_equals(left: Any, right: Any) -> Any:
    """For each row the first one with the same two numbers, shape (rows,)."""
    rows = len(left)
    slots = 64
    while slots < 2 * rows:
        slots *= 2
    table = np.full(slots, -1, np.int32)
    firsts = np.empty(rows, np.int64)
    for row in range(rows):
        slot = np.int64((left[row] * _SPREAD) >> _32) & (slots - 1)
        while table[slot] >= 0 and (left[table[slot]] != left[row] or right[table[slot]] != right[row]):
            slot = (slot + 1) & (slots - 1)
        if table[slot] < 0:
            table[slot] = row
        firsts[row] = table[slot]
    return firsts


@kernel(I64, U64, U64)
def least_of_each(firsts: Any, left: Any, right: Any) -> Any:
    """For each row the first one of its group whose two numbers are the least, shape (rows,).

    Args:
        firsts: for each row the first one of its group.
        left: the number that decides.
        right: that which decides between equals.
    """
    least = firsts.copy()
    for row in range(len(firsts)):
        best = least[firsts[row]]
        if left[row] < left[best] or (left[row] == left[best] and right[row] < right[best]):
            least[firsts[row]] = row
    return least[firsts]


@kernel(I64, I64, INT)
def roots(left: Any, right: Any, rows: Any) -> Any:
    """For each row the least row that pairs connect it with, shape (rows,)."""
    root = np.arange(rows)
    for pair in range(len(left)):
        a, b = left[pair], right[pair]
        while root[a] != a:
            root[a] = root[root[a]]
            a = root[a]
        while root[b] != b:
            root[b] = root[root[b]]
            b = root[b]
        root[max(a, b)] = min(a, b)
    for row in range(rows):
        root[row] = root[root[row]]
    return root


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
