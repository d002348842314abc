"""From UTF-8 bytes to words, n-grams, fingerprints and band keys, row by row.

A row is folded first: every byte of a word stands lower-cased in a scratch array, every other byte is 0 there. Words
are then the runs of non-zero bytes, found 64 bytes at a time; of a row only the hashes of its words are kept for what
follows, in a scratch array that lasts as long as the call.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from anneal.curation.domain.kernels.base import (
    GOLDEN,
    I64,
    INT,
    U8,
    U16_2D,
    U32,
    U64,
    helper,
    kernel,
    load8,
    mixed,
    trailing_zeros,
)

_ZERO, _ONE, _ALL = np.uint64(0), np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)
_LOW_7, _TOP_BITS = np.uint64(0x7F7F7F7F7F7F7F7F), np.uint64(0x8080808080808080)
_GATHER, _SECOND = np.uint64(0x0102040810204080), np.uint64(0xD6E8FEB86659FD93)
_LOW_8 = np.uint64(0xFF)
_7, _29, _32, _56, _63 = (np.uint64(n) for n in (7, 29, 32, 56, 63))
# Zeros behind a folded row close its last word, and let eight bytes be loaded anywhere in it.
_BLOCK, _MARGIN = 64, 128


@helper
def _scratch(offsets: Any) -> Any:
    """Room for the longest row folded (a code point grows by half at most: U+023A) and for its words' hashes."""
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    return np.empty(longest + longest // 2 + _MARGIN, np.uint8), np.empty(longest // 2 + 2, np.uint64)


@helper
def _fold(octets: Any, start: Any, end: Any, table: Any, folded: Any) -> Any:
    """Fold a row, and return its folded size."""
    size = end - start
    seen = np.uint8(0)
    for i in range(size):
        octet = octets[start + i]
        seen |= octet
        is_upper = np.uint8(octet - np.uint8(65)) < np.uint8(26)
        lower = np.uint8(octet + np.uint8(32)) if is_upper else octet
        is_letter = np.uint8(lower - np.uint8(97)) < np.uint8(26)
        is_digit = np.uint8(octet - np.uint8(48)) < np.uint8(10)
        folded[i] = lower if is_letter | is_digit | (octet == np.uint8(95)) else np.uint8(0)
    if seen > np.uint8(127):
        size = _fold_unicode(octets, start, end, table, folded)
    folded[size : size + _MARGIN] = 0
    return size


@helper
def _fold_unicode(octets: Any, start: Any, end: Any, table: Any, folded: Any) -> Any:
    """Fold a row one code point at a time; what is not UTF-8 may be any word, but reads nothing outside its row."""
    i, size = start, 0
    while i < end:
        lead = np.uint32(octets[i])
        if lead < 0x80:
            folded[size] = np.uint8(table[lead])
            i, size = i + 1, size + 1
            continue
        if lead < 0xE0:
            point, width = lead & np.uint32(0x1F), 2
        elif lead < 0xF0:
            point, width = lead & np.uint32(0x0F), 3
        else:
            point, width = lead & np.uint32(0x07), 4
        if i + width > end:
            break
        for j in range(1, width):
            point = (point << np.uint32(6)) | np.uint32(octets[i + j] & np.uint8(0x3F))
        i += width
        size = _encode(table[point] if point < len(table) else np.uint32(0), folded, size)
    return size


@helper
def _encode(point: Any, folded: Any, size: Any) -> Any:
    """Append a code point in UTF-8, and return the new size."""
    if point < 0x80:
        folded[size] = np.uint8(point)
        return size + 1
    if point < 0x800:
        folded[size] = np.uint8(0xC0 | (point >> 6))
        folded[size + 1] = np.uint8(0x80 | (point & 0x3F))
        return size + 2
    if point < 0x10000:
        folded[size] = np.uint8(0xE0 | (point >> 12))
        folded[size + 1] = np.uint8(0x80 | ((point >> 6) & 0x3F))
        folded[size + 2] = np.uint8(0x80 | (point & 0x3F))
        return size + 3
    folded[size] = np.uint8(0xF0 | (point >> 18))
    folded[size + 1] = np.uint8(0x80 | ((point >> 12) & 0x3F))
    folded[size + 2] = np.uint8(0x80 | ((point >> 6) & 0x3F))
    folded[size + 3] = np.uint8(0x80 | (point & 0x3F))
    return size + 4


@helper
def _word_bits(folded: Any, block: Any) -> Any:
    """Which of the 64 bytes from `block` on are not 0, the first in the lowest bit."""
    bits = _ZERO
    for lane in range(8):
        eight = load8(folded, block + 8 * lane)
        tops = (((eight & _LOW_7) + _LOW_7) | eight) & _TOP_BITS
        bits |= (((tops >> _7) * _GATHER) >> _56) << np.uint64(8 * lane)
    return bits


@helper
def _hash(folded: Any, start: Any, size: Any) -> Any:
    value = np.uint64(size) * GOLDEN
    while size > 8:
        value = mixed(value ^ load8(folded, start)) + GOLDEN
        start, size = start + 8, size - 8
    return mixed(value ^ (load8(folded, start) & (_ALL >> np.uint64(64 - 8 * size))))


@helper
def _hash_words(folded: Any, size: Any, hashes: Any, at: Any) -> Any:
    """Write the hashes of a folded row's words from `at` on, and return where they end."""
    carry, start, is_open = _ZERO, 0, False
    for block in range(0, size + 1, _BLOCK):
        bits = _word_bits(folded, block)
        edges = bits ^ ((bits << _ONE) | carry)
        carry = bits >> _63
        while edges != _ZERO:
            place = block + trailing_zeros(edges)
            edges &= edges - _ONE
            if is_open:
                hashes[at] = _hash(folded, start, place - start)
                at += 1
            start, is_open = place, not is_open
    return at


@helper
def _ngrams(words: Any, first: Any, last: Any, n: Any, grams: Any, at: Any) -> Any:
    """Write the hashes of a row's n-grams from `at` on, and return where they end; a short row is one."""
    if first == last:
        return at
    # What the word that leaves the window was multiplied by.
    window, leading = _ZERO, _ONE
    for _ in range(n):
        leading *= GOLDEN
    for i in range(first, last):
        window = window * GOLDEN + words[i]
        if i - first >= n:
            window -= words[i - n] * leading
        if i - first >= n - 1:
            grams[at] = mixed(window)
            at += 1
    if last - first < n:
        grams[at] = mixed(window ^ np.uint64(last - first))
        at += 1
    return at


@helper
def _fingerprint(words: Any, first: Any, last: Any, prints: Any, row: Any) -> Any:
    left, right = _ZERO, _ZERO
    for i in range(first, last):
        word = words[i]
        left = (left ^ word) * GOLDEN
        left ^= left >> _32
        right = (right + word) * _SECOND
        right ^= right >> _29
    prints[row, 0] = mixed(left)
    prints[row, 1] = mixed(right ^ np.uint64(last - first))


@helper
def _band_keys(bins: Any, fillings: Any, chosen: Any, keys: Any, checks: Any, row: Any) -> Any:
    """Turn the least hash of each bin into keys; empty bins borrow from the filled one that is first in their order."""
    bands = keys.shape[0]
    width = len(bins) // bands
    chosen[:] = np.uint16(0xFFFF)
    for place in range(len(bins)):
        if bins[place] != _ALL:
            for other in range(len(bins)):
                chosen[other] = min(chosen[other], fillings[place, other])
    at = 0
    for band in range(bands):
        key = _ZERO
        for _ in range(width):
            key = (key ^ bins[chosen[at] & np.uint16(0xFF)]) * GOLDEN
            key ^= key >> _29
            at += 1
        keys[band, row] = np.uint32(key >> _32)
        checks[row, band] = np.uint8(key & _LOW_8)


@helper
def _least(grams: Any, first: Any, last: Any, bins: Any) -> Any:
    """Put the least hash of each bin into `bins`; all ones mark an empty bin."""
    count = np.uint64(len(bins))
    bins[:] = _ALL
    for i in range(first, last):
        gram = grams[i]
        place = ((gram >> _32) * count) >> _32
        bins[place] = min(bins[place], gram)


@kernel(U8, I64, U32)
def hash_words(octets: Any, offsets: Any, table: Any) -> Any:
    """The hashes of all words, and the bounds of each row's; shapes (words,) and (rows + 1,)."""
    rows = len(offsets) - 1
    folded, _ = _scratch(offsets)
    # Pages of the room that stay empty cost no memory.
    hashes = np.empty((offsets[rows] + rows) // 2 + 1, np.uint64)
    bounds = np.zeros(rows + 1, np.int64)
    for row in range(rows):
        size = _fold(octets, offsets[row], offsets[row + 1], table, folded)
        bounds[row + 1] = _hash_words(folded, size, hashes, bounds[row])
    return hashes[: bounds[rows]], bounds


@kernel(U64, I64, INT, INT)
def hash_ngrams(words: Any, offsets: Any, n: Any, short_rows: Any) -> Any:
    """The hashes of all n-grams, and the bounds of each row's; shapes (n-grams,) and (rows + 1,)."""
    rows = len(offsets) - 1
    grams = np.empty(len(words), np.uint64)
    bounds = np.zeros(rows + 1, np.int64)
    for row in range(rows):
        first, last = offsets[row], offsets[row + 1]
        has = short_rows or last - first >= n
        bounds[row + 1] = _ngrams(words, first, last, n, grams, bounds[row]) if has else bounds[row]
    return grams[: bounds[rows]], bounds


@kernel(U64, I64)
def fingerprints(words: Any, offsets: Any) -> Any:
    """128 bits of each row's words in their order, shape (rows, 2)."""
    prints = np.empty((len(offsets) - 1, 2), np.uint64)
    for row in range(len(offsets) - 1):
        _fingerprint(words, offsets[row], offsets[row + 1], prints, row)
    return prints


@kernel(U64, I64, U16_2D, INT)
def band_keys(shingles: Any, offsets: Any, fillings: Any, bands: Any) -> Any:
    """The band keys of sets of shingles, shape (bands, rows), and a byte more of each, (rows, bands); 0 for none."""
    bins, chosen = np.empty(len(fillings), np.uint64), np.empty(len(fillings), np.uint16)
    keys = np.zeros((bands, len(offsets) - 1), np.uint32)
    checks = np.zeros((len(offsets) - 1, bands), np.uint8)
    for row in range(len(offsets) - 1):
        if offsets[row] < offsets[row + 1]:
            _least(shingles, offsets[row], offsets[row + 1], bins)
            _band_keys(bins, fillings, chosen, keys, checks, row)
    return keys, checks


@kernel(U8, I64, U32, INT, U16_2D, INT)
def sign(octets: Any, offsets: Any, table: Any, n: Any, fillings: Any, bands: Any) -> Any:
    """Fingerprints (rows, 2), band keys of n-grams (bands, rows), a byte more of each, and numbers of words."""
    rows = len(offsets) - 1
    folded, words = _scratch(offsets)
    grams = np.empty_like(words)
    bins, chosen = np.empty(len(fillings), np.uint64), np.empty(len(fillings), np.uint16)
    prints, keys = np.empty((rows, 2), np.uint64), np.zeros((bands, rows), np.uint32)
    checks, counts = np.zeros((rows, bands), np.uint8), np.empty(rows, np.int64)
    for row in range(rows):
        size = _fold(octets, offsets[row], offsets[row + 1], table, folded)
        counts[row] = _hash_words(folded, size, words, 0)
        _fingerprint(words, 0, counts[row], prints, row)
        if counts[row]:
            _least(grams, 0, _ngrams(words, 0, counts[row], n, grams, 0), bins)
            _band_keys(bins, fillings, chosen, keys, checks, row)
    return prints, keys, checks, counts


@kernel(U8, I64, U32, INT)
def shingle(octets: Any, offsets: Any, table: Any, n: Any) -> Any:
    """Each row's n-grams, sorted and each once, and the bounds of each row's; shapes (n-grams,) and (rows + 1,)."""
    rows = len(offsets) - 1
    folded, words = _scratch(offsets)
    grams = np.empty((offsets[rows] + rows) // 2 + 1, np.uint64)
    bounds = np.zeros(rows + 1, np.int64)
    for row in range(rows):
        size = _fold(octets, offsets[row], offsets[row + 1], table, folded)
        first = at = bounds[row]
        last = _ngrams(words, 0, _hash_words(folded, size, words, 0), n, grams, first)
        grams[first:last].sort()
        for i in range(first, last):
            if i == first or grams[i] != grams[at - 1]:
                grams[at] = grams[i]
                at += 1
        bounds[row + 1] = at
    return grams[: bounds[rows]].copy(), bounds
