"""White space collapsed, and BLAKE2b (RFC 7693) of many rows.

BLAKE2b rather than a faster mixing hash: rows leave by equality of it, and nobody can write a text that takes another's
place. Compiled, it costs a few cycles per byte and, unlike `hashlib`, neither a Python object per row nor the lock.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from anneal.curation.domain.kernels.base import I64, U8, UINT, helper, kernel, load8, store8

_BLOCK = 128
_LANES = 4
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
_SIGMA = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
)
# Which numbers of the state are mixed: columns, then diagonals.
_MIXES = (
    (0, 4, 8, 12),
    (1, 5, 9, 13),
    (2, 6, 10, 14),
    (3, 7, 11, 15),
    (0, 5, 10, 15),
    (1, 6, 11, 12),
    (2, 7, 8, 13),
    (3, 4, 9, 14),
)
# Digest of 16 bytes, no key, fan-out and depth 1.
_PARAMETERS = np.uint64(0x01010010)
# ASCII in lower case, its white space (as `str.isspace` has it) as a space.
_COLLAPSED = np.arange(256, dtype=np.uint8)
_COLLAPSED[65:91] += 32
_COLLAPSED[[9, 10, 11, 12, 13, 28, 29, 30, 31]] = 32
# Added to each of eight ASCII bytes, these set its top bit where it is at least a space, an A, or what follows Z.
_TO_SPACE, _TO_A, _BEYOND_Z = (np.uint64((128 - octet) * 0x0101010101010101) for octet in (32, 65, 91))
_SPACES, _BELOW_128, _TOPS = (np.uint64(octet * 0x0101010101010101) for octet in (32, 127, 128))
_0, _2, _7, _8, _63 = (np.uint64(n) for n in (0, 2, 7, 8, 63))


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


@intrinsic  # type: ignore[untyped-decorator]
def _compress(_context: Any, states: Any, blocks: Any, counts: Any, lasts: Any) -> Any:
    """Take a block into each of `_LANES` states, all at once: every number below is a vector with one of each.

    Args:
        states: shape (8, lanes).
        blocks: where the block of each is in memory, shape (lanes,).
        counts: bytes taken in with it, shape (lanes,).
        lasts: all bits set where it is the last, else 0; shape (lanes,).
    """
    word, vector = ir.IntType(64), ir.VectorType(ir.IntType(64), _LANES)

    def every(number: int) -> Any:
        return ir.Constant(vector, [number] * _LANES)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = [
            context.make_array(kind)(context, builder, one).data for kind, one in zip(signature.args, args, strict=True)
        ]

        def spot(array: int, row: int) -> Any:
            first = builder.gep(data[array], [ir.Constant(word, row * _LANES)])
            return builder.bitcast(first, vector.as_pointer())

        def load(array: int, row: int = 0) -> Any:
            value = builder.load(spot(array, row))
            value.align = 8
            return value

        def message(place: int) -> Any:
            made = ir.Constant(vector, ir.Undefined)
            for lane, block in enumerate(starts):
                value = builder.load(builder.gep(block, [ir.Constant(word, place)]))
                value.align = 1
                made = builder.insert_element(made, value, ir.Constant(ir.IntType(32), lane))
            return made

        def turned(value: Any, bits: int) -> Any:
            return builder.or_(builder.lshr(value, every(bits)), builder.shl(value, every(64 - bits)))

        def mix(a: int, b: int, c: int, d: int, x: Any, y: Any) -> None:
            for more, first, second in ((x, 32, 24), (y, 16, 63)):
                v[a] = builder.add(builder.add(v[a], v[b]), more)
                v[d] = turned(builder.xor(v[d], v[a]), first)
                v[c] = builder.add(v[c], v[d])
                v[b] = turned(builder.xor(v[b], v[c]), second)

        begins = load(1)
        lanes = [builder.extract_element(begins, ir.Constant(ir.IntType(32), lane)) for lane in range(_LANES)]
        starts = [builder.inttoptr(begin, word.as_pointer()) for begin in lanes]
        words = [message(place) for place in range(16)]
        before = [load(0, row) for row in range(8)]
        v = [*before, *(every(int(number)) for number in _IV)]
        v[12] = builder.xor(v[12], load(2))
        v[14] = builder.xor(v[14], load(3))
        for order in _SIGMA:
            for n, (a, b, c, d) in enumerate(_MIXES):
                mix(a, b, c, d, words[order[2 * n]], words[order[2 * n + 1]])
        for row in range(8):
            after = builder.xor(before[row], builder.xor(v[row], v[row + 8]))
            builder.store(after, spot(0, row)).align = 8
        return context.get_dummy_value()

    return types.void(states, blocks, counts, lasts), code


@helper
def _tail(octets: Any, start: Any, end: Any, out: Any, lane: Any) -> None:
    """Copy the rest of a row, at most a block, and fill the block with zeros."""
    out[lane, :] = 0
    at = 0
    while start + 8 <= end:
        store8(out, lane * _BLOCK + at, load8(octets, start))
        start, at = start + 8, at + 8
    while start < end:
        out[lane, at] = octets[start]
        start, at = start + 1, at + 1


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


@kernel(U8, I64, U8, UINT)
def blake2b(octets: Any, offsets: Any, chosen: Any, person: Any) -> Any:
    """128 bits of BLAKE2b of each row, shape (rows, 2); of rows where `chosen`, shape (rows,), is 0 they mean nothing.

    Several rows are hashed at once, each in a lane; where one ends, the next one begins.

    The person is the first eight bytes of BLAKE2b's personalisation, little-endian.
    """
    rows = len(offsets) - 1
    digests = np.empty((rows, 2), np.uint64)
    states, tails = np.empty((8, _LANES), np.uint64), np.zeros((_LANES, _BLOCK), np.uint8)
    blocks, counts, lasts = np.zeros(_LANES, np.uint64), np.zeros(_LANES, np.uint64), np.zeros(_LANES, np.uint64)
    row_of, at = np.full(_LANES, -1, np.int64), np.zeros(_LANES, np.int64)
    first, following = np.uint64(octets.ctypes.data), 0
    while True:
        is_busy = False
        for lane in range(_LANES):
            if row_of[lane] < 0:
                while following < rows and not chosen[following]:
                    following += 1
                blocks[lane] = np.uint64(tails.ctypes.data)
                if following == rows:
                    continue
                row_of[lane], at[lane] = following, offsets[following]
                for i in range(8):
                    states[i, lane] = _IV[i]
                states[0, lane] ^= _PARAMETERS
                states[6, lane] ^= person
                following += 1
            is_busy = True
            start, end = offsets[row_of[lane]], offsets[row_of[lane] + 1]
            if end - at[lane] > _BLOCK:
                blocks[lane] = first + np.uint64(at[lane])
                at[lane] += _BLOCK
                lasts[lane] = _0
            else:
                _tail(octets, at[lane], end, tails, lane)
                blocks[lane] = np.uint64(tails.ctypes.data) + np.uint64(lane * _BLOCK)
                at[lane] = end
                lasts[lane] = ~_0
            counts[lane] = np.uint64(at[lane] - start)
        if not is_busy:
            return digests
        _compress(states, blocks, counts, lasts)
        for lane in range(_LANES):
            if row_of[lane] >= 0 and lasts[lane] != _0:
                digests[row_of[lane], 0], digests[row_of[lane], 1] = states[0, lane], states[1, lane]
                row_of[lane] = -1
