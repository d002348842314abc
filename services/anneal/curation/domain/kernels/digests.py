"""White space collapsed, and BLAKE2b (RFC 7693) of many rows.

BLAKE2b rather than a faster mixing hash: rows leave by equality of it, and nobody can write a text that takes another's
place. Compiled, it costs a few cycles per byte and, unlike `hashlib`, neither a Python object per row nor the lock.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from anneal.curation.domain.kernels.base import I64, INT, U8, UINT, helper, kernel, load8, store8

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
    dtype=np.int64,
)
_SIGMA *= 8  # where each word of a block begins
# Digest of 16 bytes, no key, fan-out and depth 1.
_PARAMETERS = np.uint64(0x01010010)
# ASCII in lower case, its white space (as `str.isspace` has it) as a space.
_COLLAPSED = np.arange(256, dtype=np.uint8)
_COLLAPSED[65:91] += 32
_COLLAPSED[[9, 10, 11, 12, 13, 28, 29, 30, 31]] = 32
# Added to each of eight ASCII bytes, these set its top bit where it is at least a space, an A, or what follows Z.
_TO_SPACE, _TO_A, _BEYOND_Z = (np.uint64((128 - octet) * 0x0101010101010101) for octet in (32, 65, 91))
_SPACES, _BELOW_128, _TOPS = (np.uint64(octet * 0x0101010101010101) for octet in (32, 127, 128))
_0, _2, _7, _8 = (np.uint64(n) for n in (0, 2, 7, 8))
_1, _16, _24, _32, _40, _48, _63 = (np.uint64(n) for n in (1, 16, 24, 32, 40, 48, 63))


@helper
def _collapse(octets: Any, start: Any, end: Any, out: Any, at: Any) -> Any:
    """Append a row with ASCII in lower case and white space collapsed, and return the new end.

    Eight bytes are taken at once where they are ASCII without a control character or two spaces in a row.
    """
    first = at
    after_space = np.uint8(1)
    i = start
    while i < end:
        stop = min(i + 8, end)
        if stop - i == 8:
            eight = load8(octets, i)
            spaces = ~((eight ^ _SPACES) + _BELOW_128) & _TOPS
            again = spaces & ((spaces << _8) | (np.uint64(after_space) << _7))
            if ((eight | ~(eight + _TO_SPACE)) & _TOPS) | again == _0:
                upper = (eight + _TO_A) & ~(eight + _BEYOND_Z) & _TOPS
                store8(out, at, eight | (upper >> _2))
                at += 8
                i = stop
                after_space = np.uint8(spaces >> _63)
                continue
        while i < stop:
            octet = _COLLAPSED[octets[i]]
            is_space = np.uint8(octet == np.uint8(32))
            out[at] = octet
            at += np.int64(is_space & after_space ^ np.uint8(1))
            after_space = is_space
            i += 1
    return at - 1 if at > first and after_space else at


@helper
def _mix(a: Any, b: Any, c: Any, d: Any, x: Any, y: Any) -> Any:
    a += b + x
    d ^= a
    d = (d >> _32) | (d << _32)
    c += d
    b ^= c
    b = (b >> _24) | (b << _40)
    a += b + y
    d ^= a
    d = (d >> _16) | (d << _48)
    c += d
    b ^= c
    b = (b >> _63) | (b << _1)
    return a, b, c, d


@helper
def _compress(h: Any, octets: Any, at: Any, count: Any, is_last: Any) -> Any:
    """Take in a block. The state is in variables of its own, not in an array, so that it stays in registers."""
    v0, v1, v2, v3, v4, v5, v6, v7 = h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
    v8, v9, v10, v11, v12, v13, v14, v15 = _IV[0], _IV[1], _IV[2], _IV[3], _IV[4], _IV[5], _IV[6], _IV[7]
    v12 ^= np.uint64(count)
    if is_last:
        v14 = ~v14
    for r in range(12):
        s = _SIGMA[r]
        v0, v4, v8, v12 = _mix(v0, v4, v8, v12, load8(octets, at + s[0]), load8(octets, at + s[1]))
        v1, v5, v9, v13 = _mix(v1, v5, v9, v13, load8(octets, at + s[2]), load8(octets, at + s[3]))
        v2, v6, v10, v14 = _mix(v2, v6, v10, v14, load8(octets, at + s[4]), load8(octets, at + s[5]))
        v3, v7, v11, v15 = _mix(v3, v7, v11, v15, load8(octets, at + s[6]), load8(octets, at + s[7]))
        v0, v5, v10, v15 = _mix(v0, v5, v10, v15, load8(octets, at + s[8]), load8(octets, at + s[9]))
        v1, v6, v11, v12 = _mix(v1, v6, v11, v12, load8(octets, at + s[10]), load8(octets, at + s[11]))
        v2, v7, v8, v13 = _mix(v2, v7, v8, v13, load8(octets, at + s[12]), load8(octets, at + s[13]))
        v3, v4, v9, v14 = _mix(v3, v4, v9, v14, load8(octets, at + s[14]), load8(octets, at + s[15]))
    h[0] ^= v0 ^ v8
    h[1] ^= v1 ^ v9
    h[2] ^= v2 ^ v10
    h[3] ^= v3 ^ v11
    h[4] ^= v4 ^ v12
    h[5] ^= v5 ^ v13
    h[6] ^= v6 ^ v14
    h[7] ^= v7 ^ v15


@helper
def _digest(octets: Any, start: Any, end: Any, person: Any, room: Any, out: Any, row: Any) -> Any:
    h, tail = room
    for i in range(8):
        h[i] = _IV[i]
    h[0] ^= _PARAMETERS
    h[6] ^= person
    at = start
    while end - at > _BLOCK:
        _compress(h, octets, at, at + _BLOCK - start, False)
        at += _BLOCK
    tail[:] = 0
    for i in range(end - at):
        tail[i] = octets[at + i]
    _compress(h, tail, 0, end - start, True)
    out[row, 0], out[row, 1] = h[0], h[1]


@helper
def _room() -> Any:
    return np.empty(8, np.uint64), np.empty(_BLOCK, np.uint8)


@kernel(U8, I64)
def collapse(octets: Any, offsets: Any) -> Any:
    """All rows with ASCII in lower case, each run of ASCII white space as one space and none at either end."""
    rows = len(offsets) - 1
    out = np.empty(offsets[rows] - offsets[0] + 1, np.uint8)
    bounds = np.zeros(rows + 1, np.int64)
    for row in range(rows):
        bounds[row + 1] = _collapse(octets, offsets[row], offsets[row + 1], out, bounds[row])
    return out[: bounds[rows]], bounds


@kernel(U8, I64)
def ascii_rows(octets: Any, offsets: Any) -> Any:
    """1 for each row that is all ASCII, else 0; shape (rows,)."""
    rows = len(offsets) - 1
    found = np.empty(rows, np.uint8)
    for row in range(rows):
        seen, i, end = _0, offsets[row], offsets[row + 1]
        while i + 8 <= end:
            seen |= load8(octets, i)
            i += 8
        while i < end:
            seen |= np.uint64(octets[i])
            i += 1
        found[row] = seen & _TOPS == _0
    return found


@kernel(U8, I64, U8, INT, UINT)
def digest(octets: Any, offsets: Any, chosen: Any, collapsed: Any, person: Any) -> Any:
    """128 bits of BLAKE2b of each row, shape (rows, 2), and its size in bytes: as it stands, or as `collapse` has it.

    Only of rows where `chosen`, shape (rows,), is not 0; what is said of the others means nothing.

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
        if not chosen[row]:
            continue
        start, end = offsets[row], offsets[row + 1]
        if collapsed:
            sizes[row] = _collapse(octets, start, end, text, 0)
            _digest(text, 0, sizes[row], person, room, digests, row)
        else:
            sizes[row] = end - start
            _digest(octets, start, end, person, room, digests, row)
    return digests, sizes
