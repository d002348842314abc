"""The benchmark's truth, and how it judges results."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.curation.truth import Truth, all_pairs, truth

SETS = st.lists(st.sets(st.integers(0, 14), min_size=1), max_size=25)


def similarity(left: set[object], right: set[object]) -> float:
    return len(left & right) / len(left | right)


@given(SETS, st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_the_join_finds_what_comparing_all_with_all_finds(sets: list[set[int]], threshold: float) -> None:
    found = all_pairs([np.array(sorted(one)) for one in sets], threshold)
    wanted = {
        (left, right)
        for left, right in combinations(range(len(sets)), 2)
        if similarity(set(sets[left]), set(sets[right])) >= threshold
    }
    assert sorted(tuple(sorted(pair)) for pair in found.tolist()) == sorted(wanted)


WORDS = st.lists(st.sampled_from(["a", "b", "C", "d-e"]), max_size=9).map(" ".join)


@given(st.lists(WORDS, max_size=12))
def test_components_are_chains_of_similar_texts(texts: list[str]) -> None:
    sets = []
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        runs = [tuple(words[n : n + 3]) for n in range(max(len(words) - 2, 1))]
        sets.append({run for run in runs if run})
    group = list(range(len(texts)))
    for left, right in combinations(range(len(texts)), 2):
        if sets[left] and sets[right] and similarity(set(sets[left]), set(sets[right])) >= 0.5:
            old, new = group[right], group[left]
            group = [new if one == old else one for one in group]
    found = truth(texts, 3, 0.5).component.tolist()
    pairs = list(combinations(range(len(texts)), 2))
    assert [found[a] == found[b] for a, b in pairs] == [group[a] == group[b] for a, b in pairs]


@pytest.mark.parametrize(
    ("kept", "lost", "recall"),
    [([0, 3, 5], 0, 1.0), ([0, 1, 3, 5], 0, 2 / 3), ([3, 5], 3, 1.0), ([2, 4], 1, 1.0), ([0, 1, 2, 3, 4, 5], 0, 0.0)],
)
def test_a_result_is_judged(kept: list[int], lost: int, recall: float) -> None:
    found = Truth(np.array([0, 0, 0, 1, 1, 2]), 3).score(kept)
    assert found[0] == lost
    assert found[1] == pytest.approx(recall)
