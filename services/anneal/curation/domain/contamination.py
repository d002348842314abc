"""An index of benchmark items, and what of them a row holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.errors import IndexIncomplete
from anneal.curation.domain.matchers import MIN_COMMON_ITEMS, Matcher
from anneal.curation.domain.texts import digests_of, normalized, text_of
from anneal.curation.domain.words import Ragged, ngrams_of, words_of

if TYPE_CHECKING:
    from anneal.curation.domain.kernels.table import KeyTable


@dataclass(frozen=True, slots=True)
class Touch:
    """A row that holds part of a benchmark item.

    Attributes:
        row: its place in the batch.
        item: number of the item, over all benchmarks.
        ngrams: how many of the row's n-grams are in the index; 0 for an equal prompt.
    """

    row: int
    item: int
    ngrams: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """How much of a benchmark an index knows.

    Attributes:
        items: its items, all of them known by their prompt or their n-grams.
        common_ngrams: n-grams left out because too many items hold them.
        prompt_only_items: items that are found in rows with their very prompt only, because all their n-grams were left
            out or n-grams are not compared.
    """

    items: int
    common_ngrams: int
    prompt_only_items: int


class Index:
    """The items of some benchmarks, by the digest of their prompt and by their n-grams.

    An n-gram that more than a given share of one benchmark's items hold is how the benchmark asks, not what it asks: it
    is left out, unless `MIN_COMMON_ITEMS` items or fewer hold it. An item of fewer words than n is known by all its
    words: it is found in rows that have exactly these. Equal prompts are found however common their n-grams are.

    Attributes:
        ngram: words per n-gram.
        items: (benchmark, item id) by item number.
        covers: how much of each benchmark the index knows, by benchmark.
        matchers: further ways to find items, by method; one for `ngram` takes the place of the index's own.
    """

    def __init__(self, ngram: int, max_item_share: float, matchers: Mapping[str, Matcher] | None = None) -> None:
        self.ngram = ngram
        self.items: list[tuple[str, str]] = []
        self.covers: dict[str, Cover] = {}
        self.matchers = dict(matchers or {})
        self._max_item_share = max_item_share
        self._prompts = _Table()
        self._ngrams = _Table()

    def add(self, benchmark: str, batches: Iterable[pa.RecordBatch], methods: Sequence[str]) -> None:
        """Index a benchmark.

        Raises:
            IndexIncomplete: it has no item, or one that no method can find again.
        """
        first = len(self.items)
        grams, holders = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
        prompts, askers = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
        for batch in batches:
            start = len(self.items)
            words = _words(batch)
            _check_items(benchmark, batch, methods, words)
            self.items.extend((benchmark, item) for item in batch.column("id").to_pylist())
            for method, matcher in self.matchers.items():
                _check_found(benchmark, batch, method, matcher.add(batch, start))
            if "ngram" in methods and "ngram" not in self.matchers:
                found = ngrams_of(words, self.ngram, short_rows=True)
                grams.append(found.values)
                holders.append(np.repeat(np.arange(batch.num_rows), found.lengths) + start)
            prompts.append(_prompt_keys(batch))
            askers.append(np.arange(batch.num_rows) + start)
        count = len(self.items) - first
        if not count:
            raise IndexIncomplete(f"{benchmark} has no items to index", benchmark=benchmark)
        self._prompts.add(np.concatenate(prompts), np.concatenate(askers))
        allowed = max(int(self._max_item_share * count), MIN_COMMON_ITEMS)
        common, known = self._ngrams.add(np.concatenate(grams), np.concatenate(holders), at_most=allowed)
        unknown = np.setdiff1d(np.arange(first, len(self.items)), known)
        lost_by = {method: matcher.close() for method, matcher in self.matchers.items()}
        if "ngram" in methods:
            lost_by.setdefault("ngram", unknown)
        lost = [lost_by.get(method, np.zeros(0, dtype=np.int64)) for method in methods]  # the others find every item
        unfound = reduce(np.intersect1d, lost)
        if len(unfound):
            raise _all_common(benchmark, self.items[int(unfound[0])][1], len(unfound), count, allowed)
        self.covers[benchmark] = Cover(items=count, common_ngrams=common, prompt_only_items=len(unknown))

    def equal_prompts(self, batch: pa.RecordBatch) -> list[Touch]:
        """Rows whose normalised prompt is that of an item."""
        items = self._prompts.find(_prompt_keys(batch))
        return [Touch(row, int(items[row]), 0) for row in np.flatnonzero(items >= 0).tolist()]

    def shared_ngrams(self, batch: pa.RecordBatch) -> list[Touch]:
        """Rows with an n-gram of an item; the item is the first of the row's first such n-gram."""
        grams = ngrams_of(_words(batch), self.ngram, short_rows=True)
        items = self._ngrams.find(grams.values)
        places = np.flatnonzero(items >= 0)
        rows = np.searchsorted(grams.offsets, places, side="right") - 1
        touched, firsts, counts = np.unique(rows, return_index=True, return_counts=True)
        return [
            Touch(row, int(items[places[first]]), count)
            for row, first, count in zip(touched.tolist(), firsts.tolist(), counts.tolist(), strict=True)
        ]


def _check_items(benchmark: str, batch: pa.RecordBatch, methods: Sequence[str], words: Ragged) -> None:
    """Check that every item has what the methods asked for compare.

    Raises:
        IndexIncomplete: one has no words, or nothing in its prompt.
    """
    wordless = words.lengths == 0
    empty = pc.equal(pc.utf8_length(normalized(text_of(batch, "prompt"))), 0).to_numpy(zero_copy_only=False)
    blind = (wordless if "ngram" in methods else False) | (empty if "exact" in methods else False)
    if np.any(blind):
        row = int(np.flatnonzero(blind)[0])
        what = "no words" if wordless[row] else "no prompt"
        item = batch.column("id")[row].as_py()
        raise IndexIncomplete(f"item {item} of {benchmark} has {what} to index", benchmark=benchmark, item=item)


def _check_found(benchmark: str, batch: pa.RecordBatch, method: str, blind: NDArray[np.bool_]) -> None:
    """Check that a method can find every item.

    Raises:
        IndexIncomplete: it cannot.
    """
    if blind.any():
        item = batch.column("id")[int(np.flatnonzero(blind)[0])].as_py()
        what = {"source": "does not say where it is from", "semantic": "says nothing that the encoder knows"}
        why = what.get(method, "has no words to index")
        raise IndexIncomplete(f"item {item} of {benchmark} {why}", benchmark=benchmark, item=item)


def _all_common(benchmark: str, item: str, unknown: int, count: int, allowed: int) -> IndexIncomplete:
    return IndexIncomplete(
        f"{unknown} of the {count} items of {benchmark} cannot be found by n-grams, item {item} for one: more than "
        f"{allowed} items hold each of theirs; compare with `exact` too, or raise `max_item_share` or `ngram`",
        benchmark=benchmark,
        item=item,
        items=str(unknown),
    )


class _Table:
    """Sorted 64-bit keys, each with the lowest item that has it."""

    def __init__(self) -> None:
        self._keys = np.zeros(0, dtype=np.uint64)
        self._items = np.zeros(0, dtype=np.int64)
        self._table: KeyTable | None = None

    def add(
        self, keys: NDArray[np.uint64], items: NDArray[np.int64], at_most: int | None = None
    ) -> tuple[int, NDArray[np.int64]]:
        """Add keys; those that more than `at_most` items have stay out.

        Returns:
            How many stay out, and the items that have a key which does not.
        """
        order = np.lexsort((items, keys))
        keys, items = keys[order], items[order]
        differs = np.ones(len(keys), dtype=bool)
        differs[1:] = (keys[1:] != keys[:-1]) | (items[1:] != items[:-1])
        keys, items = keys[differs], items[differs]
        single, firsts, counts = np.unique(keys, return_index=True, return_counts=True)
        fits = counts <= at_most if at_most is not None else np.ones(len(single), dtype=bool)
        merged = np.concatenate((self._keys, single[fits]))
        owners = np.concatenate((self._items, items[firsts][fits]))
        # Benchmarks come one after the other: what is there already has the lower item, and comes first.
        self._keys, kept = np.unique(merged, return_index=True)
        self._items = owners[kept]
        self._table = None
        return int(np.count_nonzero(~fits)), np.unique(items[np.repeat(fits, counts)])

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The item of each key, -1 where there is none."""
        if self._table is None:
            from anneal.curation.domain.kernels.table import KeyTable

            self._table = KeyTable(self._keys, self._items)
        return self._table.find(keys)


def _words(batch: pa.RecordBatch) -> Ragged:
    return words_of(text_of(batch, "conversation"))


def _prompt_keys(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    """64 of the 128 bits of the normalised prompt: rows are few beside 2^32, and a chance hit only removes a row."""
    return np.ascontiguousarray(digests_of(batch, "prompt", normalize=True)[:, 0])
