"""What is known of matches follows from the rows that are left, however they came and went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anneal.curation.domain import candidates
from anneal.curation.domain.candidates import ends_of
from anneal.curation.domain.matches import Matches, grown
from anneal.curation.domain.signed import Looked, Notes, Parts, SignedRows

BANDS, PIECE = 3, 7


@dataclass
class Rows:
    """Rows by which words they have: equal words have equal signatures, and other words share some bands."""

    words: Sequence[int]
    keys: int
    notes: Notes = field(default_factory=Notes.in_memory)

    def signatures(self, piece: int) -> pa.RecordBatch:
        words = np.array(self.words[piece * PIECE : (piece + 1) * PIECE], dtype=np.int64)
        shared = [(words * (7 + 4 * band) % 101 % self.keys).astype(np.uint32) for band in range(BANDS)]
        columns = {"words": (words % 5).astype(np.int32), "print_0": words.astype(np.uint64) * np.uint64(1 << 40)}
        columns |= {"print_1": words.astype(np.uint64), **{f"band_{n}": keys for n, keys in enumerate(shared)}}
        return pa.RecordBatch.from_pydict(columns)

    def left(self, numbers: NDArray[np.int64]) -> SignedRows:
        pieces = -(-len(self.words) // PIECE)
        starts = np.minimum(np.arange(pieces + 1) * PIECE, len(self.words))
        keys = [str(self.words[start : start + PIECE]) for start in starts[:-1]]
        parts = Parts(self.signatures, self.signatures, self.signatures, self.signatures, keys, keys, keys)

        def no_look(*_: object) -> Looked:
            raise AssertionError

        return SignedRows(
            numbers, starts, parts, no_look, self.notes, lambda _: np.zeros(0, bool), np.zeros(pieces, np.int32)
        )


def same(left: Matches, right: Matches) -> bool:
    names = ("classes", "codes", "bands")
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in names)


@given(st.data(), st.integers(0, 1 << 32), st.sampled_from([1, 2, 5, 40]), st.sampled_from([3, 20, 60]))
@settings(max_examples=300, deadline=None)
def test_it_does_not_matter_what_was_known(data: st.DataObject, seed: int, keys: int, words: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = sorted(data.draw(st.lists(st.integers(1, 90), min_size=2, max_size=4)))
    known = Matches.empty()
    all_words = rng.integers(0, words, sizes[-1]).tolist()
    for size in sizes:
        # A version ends with a piece: the pieces of the one before are the first of the next.
        size = min(-(-size // PIECE) * PIECE, len(all_words))
        rows = Rows(all_words[:size], keys)
        numbers = np.flatnonzero(rng.random(size) < data.draw(st.sampled_from([0.2, 0.8, 1.0])))
        signed = rows.left(numbers)
        before = known
        known, changed = grown(before, signed, BANDS)
        fresh, _ = grown(Matches.empty(), signed, BANDS)
        assert same(known, fresh)
        assert changed_since(all_words, before, known) <= set(changed.tolist())
        known.similarities[:] = similarity_of(known)
        known.keep(rows.notes, signed.parts.keys)
        again = Matches.of(rows.notes, signed.parts.keys)
        assert same(again, known)
        assert np.array_equal(again.similarities, similarity_of(known))


def similarity_of(known: Matches) -> NDArray[np.float64]:
    """Any number that follows from the pair."""
    left, right = ends_of(known.codes)
    return 1 / (1 + left + 3.0 * right)


def changed_since(words: Sequence[int], before: Matches, now: Matches) -> set[int]:
    """Classes now with other rows than before, or in a pair that was not, or was in one that is not."""

    def rows_of(known: Matches) -> dict[int, list[int]]:
        return {words[n]: np.flatnonzero(known.classes == n).tolist() for n in set(known.classes.tolist()) - {-1}}

    def pairs_of(known: Matches) -> set[tuple[int, int]]:
        ends = zip(*(rows.tolist() for rows in ends_of(known.codes)), strict=True)
        return {(min(words[a], words[b]), max(words[a], words[b])) for a, b in ends}

    had, has = rows_of(before), rows_of(now)
    changed = {word for word in has if has[word] != had.get(word)}
    changed |= {word for pair in pairs_of(before) ^ pairs_of(now) for word in pair if word in has}
    return {has[word][0] for word in changed}


@pytest.mark.parametrize("size", [30, 36, 80, 200])
def test_a_full_bucket_loses_pairs_to_newcomers(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than a bucket pairs with each other: pairs of old rows go, unless another band still has them."""
    monkeypatch.setattr(candidates, "NEIGHBOURS", 3)
    rng = np.random.default_rng(size)
    words = rng.permutation(1000)[: 2 * size].tolist()
    first = Rows(words[: size // PIECE * PIECE], 4)
    before, _ = grown(Matches.empty(), first.left(np.arange(len(first.words))), BANDS)
    then = Rows(words, 4).left(np.arange(2 * size))
    now, _ = grown(before, then, BANDS)
    fresh, _ = grown(Matches.empty(), then, BANDS)
    assert same(now, fresh)
    if size > 30:
        assert set(before.codes.tolist()) - set(now.codes.tolist())


def test_other_pieces_are_unknown() -> None:
    rows = Rows(list(range(20)), 5)
    signed = rows.left(np.arange(20))
    grown(Matches.empty(), signed, BANDS)[0].keep(rows.notes, signed.parts.keys)
    assert len(Matches.of(rows.notes, signed.parts.keys).classes) == 20
    assert not len(Matches.of(rows.notes, ["other", *signed.parts.keys]).classes)
    assert not len(Matches.of(rows.notes, signed.parts.keys[:1]).classes)
