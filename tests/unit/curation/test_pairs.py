from __future__ import annotations

import random
from collections import Counter, deque
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from anneal.curation.domain.candidates import NEIGHBOURS, candidate_pairs, ends_of
from anneal.curation.domain.components import walk_components
from anneal.curation.domain.kernels.pairs import firsts_of_equals, least_of_each, repeated, roots, sharing
from anneal.curation.domain.similarity import ShingleSets, jaccard
from anneal.curation.domain.words import Ragged

SETS = st.lists(
    st.sets(st.one_of(st.integers(0, 12), st.integers((1 << 64) - 9, (1 << 64) - 1))), min_size=1, max_size=8
)


def ragged(sets: list[set[int]]) -> Ragged:
    values = [value for one in sets for value in sorted(one)]
    return Ragged(np.array(values, dtype=np.uint64), np.cumsum([0, *map(len, sets)]))


def slow_jaccard(left: set[int], right: set[int], at_least: float) -> float:
    similarity = len(left & right) / len(left | right) if left | right else 0.0
    return similarity if similarity >= at_least else 0.0


@given(SETS, st.sampled_from([0.1, 1 / 3, 0.5, 2 / 3, 0.8, 1.0]), st.data())
def test_similarities_are_those_of_sets(sets: list[set[int]], at_least: float, data: st.DataObject) -> None:
    pairs = np.array([(a, b) for a in range(len(sets)) for b in range(len(sets))])
    expected = [slow_jaccard(sets[a], sets[b], at_least) for a, b in pairs]
    whole = ragged(sets)
    found = jaccard(whole.values, whole.offsets, pairs, at_least)
    assert np.where(found >= at_least, found, 0).tolist() == expected
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sets)), max_size=3)))
    pieces = [ragged(sets[a:b]) for a, b in zip([0, *cuts], [*cuts, len(sets)], strict=True)]
    assert (ShingleSets.of(pieces).jaccard(pairs[:, 0], pairs[:, 1], at_least) == found).all()


@pytest.mark.parametrize(("common", "own"), [(4, 1), (41, 1), (8, 2), (800, 200), (799, 200)])
def test_a_similarity_at_its_own_threshold_is_reached(common: int, own: int) -> None:
    sets = ragged([set(range(common)), set(range(common + own))])
    similarity = common / (common + own)
    for at_least in (np.nextafter(similarity, 0), similarity, 0.001):
        assert jaccard(sets.values, sets.offsets, np.array([(0, 1), (1, 0)]), at_least).tolist() == [similarity] * 2


def test_sets_that_cannot_be_similar_are_given_up() -> None:
    sets = ragged([set(range(10)), set(range(5, 15)), set(range(100))])
    assert jaccard(sets.values, sets.offsets, np.array([(0, 1), (0, 2)]), 0.8).tolist() == [0, 0]
    assert jaccard(sets.values, sets.offsets, np.array([(0, 1), (0, 2)]), 0.05).tolist() == [1 / 3, 0.1]


def test_sets_may_lie_in_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "values.npy", np.arange(8, dtype=np.uint64))
    values = np.load(tmp_path / "values.npy", mmap_mode="r")
    sets = ShingleSets.of([Ragged(values[:4], np.array([0, 4])), Ragged(values, np.array([0, 5]))])
    assert sets.jaccard(np.array([0]), np.array([1]), 0.8).tolist() == [0.8]


def slow_pairs(keys: NDArray[np.uint32], order: NDArray[np.uint64]) -> dict[tuple[int, int], int]:
    """Every pair and in how many bands it is one."""
    found: Counter[tuple[int, int]] = Counter()
    for band in keys.tolist():
        buckets: dict[int, list[int]] = {}
        for row in np.argsort(order).tolist():
            buckets.setdefault(band[row], []).append(row)
        for bucket in buckets.values():
            places = combinations(range(len(bucket)), 2)
            near = ((bucket[a], bucket[b]) for a, b in places if a == 0 or b - a <= NEIGHBOURS)
            found.update((min(pair), max(pair)) for pair in near)
    return dict(found)


def fast_pairs(keys: NDArray[np.uint32], order: NDArray[np.uint64]) -> dict[tuple[int, int], int]:
    found = candidate_pairs(((band, np.arange(len(band))) for band in keys), order)
    assert (np.diff(found.codes.astype(object)) > 0).all()
    ends = zip(*(rows.tolist() for rows in ends_of(found.codes)), strict=True)
    return dict(zip(ends, found.bands.tolist(), strict=True))


@given(st.integers(0, 90), st.integers(1, 3), st.sampled_from([1, 2, 30, 1 << 31]), st.integers(0, 1 << 32))
def test_candidates_are_the_first_and_the_next_of_each_bucket(rows: int, bands: int, keys: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.integers(0, keys, (bands, rows), dtype=np.uint32)
    order = rng.permutation(rows).astype(np.uint64)
    pairs = fast_pairs(matrix, order)
    assert pairs == slow_pairs(matrix, order)
    # Numbered in another order the rows make the same pairs.
    renumbered = rng.permutation(rows)
    again = fast_pairs(matrix[:, renumbered], order[renumbered])
    assert {tuple(sorted((renumbered[a], renumbered[b]))): n for (a, b), n in again.items()} == pairs


def test_a_bucket_makes_no_square() -> None:
    rows = 100_000
    band = np.zeros(rows, dtype=np.uint32), np.arange(rows)
    found = candidate_pairs([band] * 2, np.arange(rows, dtype=np.uint64)[::-1])
    # The first meets all, and each other one those after it.
    assert len(found.codes) == rows - 1 + sum(min(NEIGHBOURS, rows - 1 - place) for place in range(1, rows))
    left, right = ends_of(found.codes)
    assert (np.sort(left[right == rows - 1]) == np.arange(rows - 1)).all()
    assert (found.bands == 2).all()


def slow_walk(pairs: list[tuple[int, int]], ranks: list[int]) -> list[tuple[int, int, int]]:
    near: dict[int, list[int]] = {}
    for a, b in pairs:
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    seen: set[int] = set()
    reached = []
    for first in sorted(near, key=lambda row: ranks[row]):
        if first in seen:
            continue
        seen.add(first)
        waiting = deque([first])
        while waiting:
            row = waiting.popleft()
            for other in sorted(near[row], key=lambda row: ranks[row]):
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
                    reached.append((other, row, first))
    return reached


@given(st.integers(2, 30), st.integers(0, 40), st.randoms())
def test_components_are_walked_from_their_first(rows: int, count: int, chance: random.Random) -> None:
    every = list(combinations(range(rows), 2))
    chosen = [pair if chance.random() < 0.5 else pair[::-1] for pair in chance.sample(every, min(count, len(every)))]
    ranks = chance.sample(range(rows), rows)
    similarity = {frozenset(pair): chance.random() for pair in chosen}
    pairs = np.array(chosen, dtype=np.int64).reshape(-1, 2)
    reached = walk_components(pairs, np.array([similarity[frozenset(pair)] for pair in chosen]), np.array(ranks))
    found = list(zip(reached.rows.tolist(), reached.by.tolist(), reached.firsts.tolist(), strict=True))
    assert found == slow_walk(chosen, ranks)
    assert reached.similarities.tolist() == [similarity[frozenset((row, by))] for row, by, _ in found]


def test_a_million_rows_are_one_chain() -> None:
    rows = 1_000_000
    pairs = np.stack((np.arange(rows - 1), np.arange(1, rows)), axis=1)
    reached = walk_components(pairs, np.full(rows - 1, 0.9), np.arange(rows))
    assert (reached.rows == np.arange(1, rows)).all()
    assert (reached.by == np.arange(rows - 1)).all()
    assert not reached.firsts.any()


@given(st.lists(st.integers(0, 40), max_size=60))
def test_repeated_values_are_found(values: list[int]) -> None:
    found = set(repeated(np.array(values, dtype=np.uint64)).tolist())
    assert {place for place, value in enumerate(values) if values.count(value) > 1} <= found


def test_of_different_values_few_are_taken_for_repeated() -> None:
    values = np.random.default_rng(1).integers(0, 1 << 64, 100_000, dtype=np.uint64)
    assert len(repeated(values)) < 20_000


@pytest.mark.parametrize("count", [0, 1, 1000, 300_000])
def test_rows_that_share_a_key_are_found_in_ranges_of_the_key(count: int) -> None:
    rng = np.random.default_rng(count)
    keys = rng.integers(0, 1 << 32, count, dtype=np.uint32)
    keys[rng.random(count) < 0.1] = (1 << 32) - 1
    again = rng.random(count) < 0.2
    keys[again] = rng.permutation(keys[again])
    keys[: count // 8] = keys[count // 8 : count // 8 * 2]
    rows = np.arange(count) * 3
    members, bounds = sharing(keys, rows)
    assert bounds[0] == 0
    assert bounds[-1] == len(members)
    assert (count <= 1000) == (len(bounds) == 2)
    starts = (np.arange(len(bounds) - 1, dtype=np.uint64) << np.uint64(32)) // np.uint64(len(bounds) - 1)
    which = np.repeat(starts, np.diff(bounds)).astype(np.uint64)
    assert ((members >> np.uint64(32)) >= which).all()
    assert ((members >> np.uint64(32)) - which < np.uint64((1 << 32) // (len(bounds) - 1))).all()
    found = dict(zip((members & np.uint64(0xFFFFFFFF)).tolist(), (members >> np.uint64(32)).tolist(), strict=True))
    assert len(found) == len(members)
    assert all(keys[row // 3] == key for row, key in found.items())
    counts = Counter(keys.tolist())
    shared = {row for row, key in zip(rows.tolist(), keys.tolist(), strict=True) if counts[key] > 1}
    assert shared <= found.keys()
    assert len(found) <= len(shared) + 0.2 * (count - len(shared))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=60))
def test_rows_of_equal_numbers_have_one_first(rows: list[tuple[int, int]]) -> None:
    left, right = (np.array([row[half] for row in rows], dtype=np.uint64) for half in (0, 1))
    assert firsts_of_equals(left, right).tolist() == [rows.index(row) for row in rows]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2)), max_size=60))
def test_the_least_of_each_group_is_its_first_such(rows: list[tuple[int, int, int]]) -> None:
    groups = [group for group, *_ in rows]
    firsts = np.array([groups.index(group) for group in groups], dtype=np.int64)
    left, right = (np.array([row[half] for row in rows], dtype=np.uint64) for half in (1, 2))
    assert least_of_each(firsts, left, right).tolist() == [
        rows.index(min(r for r in rows if r[0] == g)) for g in groups
    ]


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=30))
def test_roots_are_the_least_of_what_is_connected(rows: int, pairs: list[tuple[int, int]]) -> None:
    pairs = [(a % rows, b % rows) for a, b in pairs]
    left, right = (np.array([pair[end] for pair in pairs], dtype=np.int64) for end in (0, 1))
    least = list(range(rows))
    for _ in range(rows):
        for a, b in pairs:
            least[a] = least[b] = min(least[a], least[b])
    assert roots(left, right, rows).tolist() == least
