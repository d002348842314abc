"""What is truly a near-duplicate: all pairs at a Jaccard similarity, exactly, without any code of Anneal's.

Prefix filtering: Chaudhuri, Ganti, Kaushik, "A primitive operator for similarity joins in data cleaning", ICDE 2006,
and Xiao, Wang, Lin, Yu, "Efficient similarity joins for near duplicate detection", WWW 2008. Elements of a set stand
with the rarest first; two sets x and y of similarity t or more share one of their first |x| - ceil(t |x|) + 1 elements.
Shingles are numbered, not hashed: nothing is equal by chance.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

_WORD = re.compile(r"\w+")
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Truth:
    """The true components of similar rows.

    Attributes:
        component: number of each row's component, shape (rows,).
        pairs: similar pairs of different sets.
    """

    component: Numbers
    pairs: int

    @property
    def duplicates(self) -> int:
        """Rows that are not the only ones that must stay: all but one of each component."""
        return len(self.component) - int(self.component.max(initial=-1)) - 1

    def score(self, kept: Iterable[int]) -> tuple[int, float]:
        """How good a result is.

        Args:
            kept: numbers of the rows that stayed.

        Returns:
            Rows removed although nothing similar to them stayed, and the share of duplicates that were removed.
        """
        stays = np.zeros(len(self.component), dtype=bool)
        stays[np.fromiter(kept, dtype=np.int64)] = True
        sizes = np.bincount(self.component)
        left = np.bincount(self.component, weights=stays).astype(np.int64)
        lost = int(sizes[left == 0].sum())
        removed = int(np.minimum(sizes - left, sizes - 1).sum())
        return lost, removed / self.duplicates if self.duplicates else 1.0


def truth(texts: Sequence[str], ngram: int, threshold: float) -> Truth:
    """Find all similar rows.

    Args:
        texts: of the rows.
        ngram: words per shingle; a text of fewer words is one shingle, one without words is similar to none.
        threshold: lowest similarity.
    """
    sets = _sets(texts, ngram)
    groups: dict[bytes, int] = {}
    group_of = np.array([groups.setdefault(one.tobytes(), len(groups)) if len(one) else -1 for one in sets])
    different = [np.frombuffer(raw, dtype=np.int64) for raw in groups]
    pairs = all_pairs(different, threshold)
    parent = np.arange(len(different))
    for left, right in pairs.tolist():
        _union(parent, left, right)
    roots = np.array([_find(parent, one) for one in range(len(different))], dtype=np.int64)
    lonely = len(different) + np.arange(len(texts))
    named = np.where(group_of < 0, lonely, roots[group_of] if len(roots) else lonely)
    _, component = np.unique(named, return_inverse=True)
    return Truth(component.astype(np.int64), len(pairs))


def _sets(texts: Sequence[str], ngram: int) -> list[Numbers]:
    """The shingles of each row as numbers, ascending and each once."""
    vocabulary: dict[str, int] = {}
    numbers: dict[tuple[int, ...], int] = {}
    sets = []
    for text in texts:
        words = [vocabulary.setdefault(word, len(vocabulary)) for word in _WORD.findall(text.lower())]
        runs = zip(*(words[n:] for n in range(ngram)), strict=False) if len(words) >= ngram else [tuple(words)]
        found = {numbers.setdefault(run, len(numbers)) for run in runs if run}
        sets.append(np.array(sorted(found), dtype=np.int64))
    return sets


def all_pairs(sets: Sequence[Numbers], threshold: float) -> Numbers:
    """Every pair of sets with at least this similarity, shape (pairs, 2).

    Args:
        sets: ascending numbers, each once; not empty.
        threshold: above 0.
    """
    if not sets:
        return np.zeros((0, 2), dtype=np.int64)
    values = np.concatenate(sets)
    counts = np.bincount(values)
    order = np.lexsort((np.arange(len(counts)), counts))
    rarity = np.empty(len(counts), dtype=np.int64)
    rarity[order] = np.arange(len(counts))
    sizes = np.array([len(one) for one in sets])
    by_size = np.argsort(sizes, kind="stable")
    ranked = np.concatenate([np.sort(rarity[sets[row]]) for row in by_size])
    offsets = np.concatenate(([0], np.cumsum(sizes[by_size])))
    prefixes = sizes[by_size] - np.ceil(threshold * sizes[by_size] - 1e-9).astype(np.int64) + 1
    found: Any = _join(ranked, offsets, prefixes, threshold, len(counts))
    pairs: Numbers = by_size[found]
    return pairs


@njit  # type: ignore[untyped-decorator]
def _join(values: Any, offsets: Any, prefixes: Any, threshold: Any, elements: Any) -> Any:
    count = len(offsets) - 1
    # Postings of each element among prefixes, in one array: where its list begins, and how much of it is filled.
    begins = np.zeros(elements + 1, dtype=np.int64)
    for row in range(count):
        for at in range(offsets[row], offsets[row] + prefixes[row]):
            begins[values[at] + 1] += 1
    for element in range(elements):
        begins[element + 1] += begins[element]
    filled = begins[:-1].copy()
    postings = np.empty(begins[-1], dtype=np.int64)
    seen = np.full(count, -1, dtype=np.int64)
    found = np.empty((1024, 2), dtype=np.int64)
    size = 0
    for row in range(count):
        length = offsets[row + 1] - offsets[row]
        for at in range(offsets[row], offsets[row] + prefixes[row]):
            element = values[at]
            for place in range(begins[element], filled[element]):
                other = postings[place]
                if seen[other] == row:
                    continue
                seen[other] = row
                if offsets[other + 1] - offsets[other] < threshold * length - 1e-9:
                    continue
                if _is_similar(values, offsets, other, row, threshold):
                    if size == len(found):
                        larger = np.empty((2 * size, 2), dtype=np.int64)
                        larger[:size] = found
                        found = larger
                    found[size, 0], found[size, 1] = other, row
                    size += 1
        for at in range(offsets[row], offsets[row] + prefixes[row]):
            postings[filled[values[at]]] = row
            filled[values[at]] += 1
    return found[:size]


@njit  # type: ignore[untyped-decorator]
def _is_similar(values: Any, offsets: Any, left: Any, right: Any, threshold: Any) -> Any:
    i, j = offsets[left], offsets[right]
    common = 0
    while i < offsets[left + 1] and j < offsets[right + 1]:
        if values[i] == values[j]:
            common += 1
            i += 1
            j += 1
        elif values[i] < values[j]:
            i += 1
        else:
            j += 1
    total = offsets[left + 1] - offsets[left] + offsets[right + 1] - offsets[right] - common
    return common >= threshold * total - 1e-9


def _find(parent: Numbers, row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = int(parent[row])
    return row


def _union(parent: Numbers, left: int, right: int) -> None:
    parent[_find(parent, left)] = _find(parent, right)
