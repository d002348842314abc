"""White space collapsed, and BLAKE2b (RFC 7693) of many rows.

BLAKE2b rather than a faster mixing hash: rows leave by equality of it, and nobody can write a text that takes another's
place. Compiled, it costs a few cycles per byte and, unlike `hashlib`, neither a Python object per row nor the lock.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from anneal.curation.domain.kernels.base import I64, INT, U8, UINT, helper, kernel, load8

_BLOCK = 128
_IV = np.array(
    [
        0x6A09E667F3BCC908,
        0xBB67AE8584CAA73B,
        0x3C6EF372FE94F82B,
        0xA54FF53A5F1D36F1,
        0x510E527FADE682D1,
        0x9B05688C2B3E6C1F,
        0x1F83D9ABFB41BD6B,
        0x5BE0CD19137E2179,
    ],
    dtype=np.uint64,
)
# RFC 7693, section 2.7; rounds 10 and 11 are 0 and 1 again.
_SIGMA = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    ],
    dtype=np.uint8,
)
# Digest of 16 bytes, no key, fan-out and depth 1.
_PARAMETERS = np.uint64(0x01010010)
# ASCII in lower case, its white space (as `str.isspace` has it) as a space.
_COLLAPSED = np.arange(256, dtype=np.uint8)
_COLLAPSED[65:91] += 32
_COLLAPSED[[9, 10, 11, 12, 13, 28, 29, 30, 31]] = 32
_1, _16, _24, _32, _40, _48, _63 = (np.uint64(n) for n in (1, 16, 24, 32, 40, 48, 63))


@helper
def _collapse(octets: Any, start: Any, end: Any, out: Any, at: Any) -> Any:
    """Append a row with ASCII in lower case and white space collapsed, and return the new end."""
    first = at
    after_space = np.uint8(1)
    for i in range(start, end):
        octet = _COLLAPSED[octets[i]]
        is_space = np.uint8(octet == np.uint8(32))
        out[at] = octet
        at += np.int64(is_space & after_space ^ np.uint8(1))
        after_space = is_space
    return at - 1 if at > first and after_space else at


@helper
def _mix(v: Any, a: Any, b: Any, c: Any, d: Any, x: Any, y: Any) -> Any:
    v[a] += v[b] + x
    t = v[d] ^ v[a]
    v[d] = (t >> _32) | (t << _32)
    v[c] += v[d]
    t = v[b] ^ v[c]
    v[b] = (t >> _24) | (t << _40)
    v[a] += v[b] + y
    t = v[d] ^ v[a]
    v[d] = (t >> _16) | (t << _48)
    v[c] += v[d]
    t = v[b] ^ v[c]
    v[b] = (t >> _63) | (t << _1)


@helper
def _compress(h: Any, v: Any, octets: Any, at: Any, count: Any, is_last: Any) -> Any:
    for i in range(8):
        v[i] = h[i]
        v[i + 8] = _IV[i]
    v[12] ^= np.uint64(count)
    if is_last:
        v[14] = ~v[14]
    for r in range(12):
        s = _SIGMA[r]
        for i in range(4):
            _mix(v, i, 4 + i, 8 + i, 12 + i, load8(octets, at + 8 * s[2 * i]), load8(octets, at + 8 * s[2 * i + 1]))
        for i in range(4):
            x, y = load8(octets, at + 8 * s[8 + 2 * i]), load8(octets, at + 8 * s[9 + 2 * i])
            _mix(v, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, x, y)
    for i in range(8):
        h[i] ^= v[i] ^ v[i + 8]


@helper
def _digest(octets: Any, start: Any, end: Any, person: Any, room: Any, out: Any, row: Any) -> Any:
    h, v, tail = room
    for i in range(8):
        h[i] = _IV[i]
    h[0] ^= _PARAMETERS
    h[6] ^= person
    at = start
    while end - at > _BLOCK:
        _compress(h, v, octets, at, at + _BLOCK - start, False)
        at += _BLOCK
    tail[:] = 0
    for i in range(end - at):
        tail[i] = octets[at + i]
    _compress(h, v, tail, 0, end - start, True)
    out[row, 0], out[row, 1] = h[0], h[1]


@helper
def _room() -> Any:
    return np.empty(8, np.uint64), np.empty(16, np.uint64), np.empty(_BLOCK, np.uint8)


@kernel(U8, I64)
def collapse(octets: Any, offsets: Any) -> Any:
    """All rows with ASCII in lower case, each run of ASCII white space as one space and none at either end."""
    rows = len(offsets) - 1
    out = np.empty(offsets[rows] - offsets[0] + 1, np.uint8)
    bounds = np.zeros(rows + 1, np.int64)
    for row in range(rows):
        bounds[row + 1] = _collapse(octets, offsets[row], offsets[row + 1], out, bounds[row])
    return out[: bounds[rows]], bounds


@kernel(U8, I64, INT, UINT)
def digest(octets: Any, offsets: Any, collapsed: Any, person: Any) -> Any:
    """128 bits of BLAKE2b of each row, shape (rows, 2), and its size in bytes: as it stands, or as `collapse` has it.

    The person is the first eight bytes of BLAKE2b's personalisation, little-endian.
    """
    rows = len(offsets) - 1
    longest = 0
    for row in range(rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    text = np.empty(longest + 1, np.uint8)
    room = _room()
    digests, sizes = np.empty((rows, 2), np.uint64), np.empty(rows, np.int64)
    for row in range(rows):
        start, end = offsets[row], offsets[row + 1]
        if collapsed:
            sizes[row] = _collapse(octets, start, end, text, 0)
            _digest(text, 0, sizes[row], person, room, digests, row)
        else:
            sizes[row] = end - start
            _digest(octets, start, end, person, room, digests, row)
    return digests, sizes
