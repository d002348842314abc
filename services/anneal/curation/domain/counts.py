r"""How many words and tokens texts have, counted on their bytes and without a Python object per word.

Tokens are an estimate: the pieces that the pre-tokenizer of today's byte-level BPE vocabularies cuts a text into (the
pattern of GPT-2's and cl100k_base's kind), which are the fewest tokens it can become; long pieces count by their
length. It serves limits that keep rows far from a context's end and answers from being empty, where no tokenizer is at
hand; what a base model's own tokenizer makes of a row, the training plan says.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.texts import bytes_of
from anneal.curation.domain.words import words_of

_CHUNK = 1 << 22
_NOT_SPACE = bytes(octet >= 128 or not chr(octet).isspace() for octet in range(256))
_IS_LETTER = bytes(chr(octet).isalpha() if octet < 128 else octet >= 0xC3 and octet != 0xE2 for octet in range(256))
_ASCII_WORD = bytes(chr(octet).isalnum() or octet == ord("_") for octet in range(128)) + bytes(128)

_LETTER, _DIGIT, _MARK, _SPACE, _BREAK, _WIDE = range(6)
# What one token holds of a run at most, in code points. Digits: cl100k_base cuts after three. Letters: few English
# words are longer, and a run without end must not count as one. Wide: every code point counts.
_PER_TOKEN = np.array([16, 3, 16, 16, 16, 1])


def _kind(octet: int) -> int:
    """The kind of a code point, by its first byte in UTF-8."""
    if octet >= 0xE0:  # from U+0800 on: mostly scripts without spaces between words, and signs
        return _WIDE
    if octet >= 0x80:
        return _MARK if octet == 0xC2 else _LETTER  # U+0080 to U+00BF are signs, up to U+07FF mostly letters
    mark = chr(octet)
    if mark in "\r\n":
        return _BREAK
    return _SPACE if mark.isspace() else _LETTER if mark.isalpha() else _DIGIT if mark.isdigit() else _MARK


_KINDS = bytes(_kind(octet) for octet in range(256))


def count_words(texts: pa.Array) -> NDArray[np.int64]:
    r"""Runs of `\w` (as Python's `re` has it) in each text of a `large_string` array, shape (rows,)."""
    is_ascii = pc.string_is_ascii(texts)
    octets, offsets = bytes_of(texts)
    counts: NDArray[np.int64] = np.diff(np.searchsorted(_run_starts(octets, offsets, _ASCII_WORD), offsets))
    if not pc.all(is_ascii, min_count=0).as_py():
        others = pc.invert(is_ascii)
        counts[others.to_numpy(zero_copy_only=False)] = words_of(texts.filter(others)).lengths
    return counts


def count_fields(texts: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What ASCII white space parts in each text of a `large_string` array, and how much of it holds a letter.

    Beyond ASCII everything but U+0080 to U+00BF and U+2000 to U+2FFF, which are signs, counts as letters.

    Returns:
        Both counts, shape (rows,).
    """
    octets, offsets = bytes_of(texts)
    starts = _run_starts(octets, offsets, _NOT_SPACE)
    counts: NDArray[np.int64] = np.diff(np.searchsorted(starts, offsets))
    if not len(starts):
        return counts, counts
    letters = np.frombuffer(octets.tobytes().translate(_IS_LETTER), dtype=bool)
    lettered = starts[np.logical_or.reduceat(letters, starts)]
    return counts, np.diff(np.searchsorted(lettered, offsets))


def _run_starts(octets: NDArray[np.uint8], offsets: NDArray[np.int64], members: bytes) -> NDArray[np.int64]:
    """Where runs of the bytes that `members` marks start; no run is in two rows."""
    if not len(octets):
        return np.zeros(0, dtype=np.int64)
    inside = np.frombuffer(octets.tobytes().translate(members), dtype=bool)
    opens = inside.copy()
    np.greater(inside[1:], inside[:-1], out=opens[1:])
    edges = offsets[:-1][offsets[:-1] < offsets[1:]]
    opens[edges] = inside[edges]
    return np.flatnonzero(opens)


def count_tokens(texts: pa.Array) -> NDArray[np.int64]:
    """The estimated tokens of each text of a `large_string` array, shape (rows,).

    A run of letters is a token, with the one space or the one mark before it; so is a run of marks with the one space
    before and the line breaks after it, a run of line breaks, a run of other white space, and up to three digits.
    """
    octets, offsets = bytes_of(texts)
    leads = (octets & 0xC0) != 0x80
    if not leads.all():
        octets = octets[leads]
        offsets = np.concatenate(([0], np.cumsum(pc.utf8_length(texts).to_numpy(zero_copy_only=False))))
    counts = np.zeros(len(texts), dtype=np.int64)
    for edges in _chunks(offsets):
        starts, tokens = _pieces(octets[edges[0] : edges[-1]], edges - edges[0])
        rows = np.searchsorted(offsets, edges[:-1], side="right") - 1
        sums = np.concatenate(([0], np.cumsum(tokens)))[np.searchsorted(starts, edges - edges[0])]
        np.add.at(counts, rows, np.diff(sums))
    return counts


def _chunks(offsets: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Bounds of filled rows, some megabytes at a time; a longer row is cut at fixed places from its start."""
    edges = np.unique(offsets)
    for start, size in zip(edges[:-1], np.diff(edges), strict=True):
        if size > _CHUNK:
            edges = np.union1d(edges, np.arange(start, start + size, _CHUNK))
    first = 0
    while first < len(edges) - 1:
        last = max(int(np.searchsorted(edges, edges[first] + _CHUNK, side="right")) - 1, first + 1)
        yield edges[first : last + 1]
        first = last


def _pieces(octets: NDArray[np.uint8], edges: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where runs of one kind start, and the tokens of each."""
    kinds = np.frombuffer(octets.tobytes().translate(_KINDS), dtype=np.uint8)
    opens = np.ones(len(kinds), dtype=bool)
    np.not_equal(kinds[1:], kinds[:-1], out=opens[1:])
    opens[edges[:-1]] = True
    starts = np.flatnonzero(opens)
    sizes = np.diff(starts, append=len(kinds))
    kind = kinds[starts]
    tokens = np.ones(len(starts), dtype=np.int64)
    long = np.flatnonzero(sizes > _PER_TOKEN[kind])
    tokens[long] = -(-sizes[long] // _PER_TOKEN[kind[long]])
    # Pieces that go with the run after or before them, within one row.
    goes_on = np.ones(len(starts), dtype=bool)
    goes_on[np.searchsorted(starts, edges[1:]) - 1] = False
    alone = (sizes == 1) & goes_on
    blank = alone & (octets[starts] == ord(" "))
    before_letters, after_blank = np.zeros_like(alone), np.zeros_like(alone)
    before_letters[:-1] = kind[1:] == _LETTER
    after_blank[1:] = blank[:-1]
    before_digits_or_break = np.zeros_like(alone)
    before_digits_or_break[:-1] = (kind[1:] == _DIGIT) | (kind[1:] == _BREAK)
    tokens[blank & ~before_digits_or_break] = 0
    tokens[alone & (kind == _MARK) & before_letters & ~after_blank] = 0
    tokens[1:][(kind[1:] == _BREAK) & (kind[:-1] == _MARK) & goes_on[:-1]] = 0
    return starts, tokens
