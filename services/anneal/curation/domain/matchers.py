"""Ways to find benchmark items in rows besides equal prompts and single n-grams: by shares, by vectors, by source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.encoders import Encoder
from anneal.curation.domain.texts import Part, text_of
from anneal.curation.domain.words import ngrams_of, words_of

if TYPE_CHECKING:
    from anneal.curation.domain.kernels.table import KeyTable

MIN_COMMON_ITEMS = 10
"""An n-gram that this many items of a benchmark hold, or fewer, is never its wording, however short the benchmark is:
questions over one passage share the passage, and a passage is asked about some five times (up to 5 in SQuAD:
Rajpurkar et al. 2016, arXiv:1606.05250, section 3.2)."""
_BLOCK = 4_096

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Match:
    """A row that holds an item.

    Attributes:
        row: its place in the batch.
        item: number of the item, over all benchmarks.
        numbers: what was measured.
    """

    row: int
    item: int
    numbers: dict[str, Any]


class Matcher(Protocol):
    """One way to find items."""

    def add(self, batch: pa.RecordBatch, first: int) -> NDArray[np.bool_]:
        """Know items; returns which of them this way can never find, shape (items,).

        Args:
            batch: items, rows of a benchmark.
            first: number of the first one, over all benchmarks.
        """
        ...

    def close(self) -> Numbers:
        """The benchmark is whole; returns the numbers of its items that cannot be found after all."""
        ...

    def find(self, batch: pa.RecordBatch) -> list[Match]:
        """The rows that hold an item, each once: the item it holds most of."""
        ...


class Shares:
    """A row holds an item when it has a share of the item's different word n-grams, wherever they stand.

    That is containment of the item in the row, not their Jaccard similarity: an item is short, a row may be long, and
    a row that is similar holds the item as well. Every n-gram of every item is looked up, so none is missed by chance.
    With 8-grams and a share of 0.7 it is the rule of PaLM (Chowdhery et al. 2022, arXiv:2204.02311, section 8).
    """

    def __init__(self, ngram: int, share: float, part: Part, max_item_share: float) -> None:
        """Know nothing yet.

        Args:
            ngram: words per n-gram.
            share: of an item's n-grams.
            part: of an item that is looked for.
            max_item_share: n-grams that more than this share of a benchmark's items hold count for none of them.
        """
        self._ngram, self._share, self._part, self._max_item_share = ngram, share, part, max_item_share
        self._new: list[tuple[NDArray[np.uint64], Numbers]] = []
        self._items = 0
        self._keys = np.zeros(0, dtype=np.uint64)
        self._holders = np.zeros(0, dtype=np.int64)
        self._sizes = np.zeros(0, dtype=np.int64)
        self._table: KeyTable | None = None

    def add(self, batch: pa.RecordBatch, first: int) -> NDArray[np.bool_]:
        """Know items; those without words cannot be found."""
        grams = ngrams_of(words_of(text_of(batch, self._part)), self._ngram, short_rows=True)
        self._new.append((grams.values, np.repeat(np.arange(batch.num_rows) + first, grams.lengths)))
        self._items = first + batch.num_rows
        return np.asarray(grams.lengths == 0)

    def close(self) -> Numbers:
        """Leave out the benchmark's wording."""
        keys = np.concatenate([np.zeros(0, dtype=np.uint64), *(keys for keys, _ in self._new)])
        items = np.concatenate([np.zeros(0, dtype=np.int64), *(items for _, items in self._new)])
        self._new = []
        order = np.lexsort((items, keys))
        keys, items = keys[order], items[order]
        differs = np.ones(len(keys), dtype=bool)
        differs[1:] = (keys[1:] != keys[:-1]) | (items[1:] != items[:-1])
        keys, items = keys[differs], items[differs]
        known = np.unique(items)
        _, places, counts = np.unique(keys, return_inverse=True, return_counts=True)
        allowed = max(int(self._max_item_share * len(known)), MIN_COMMON_ITEMS)
        own = counts[places] <= allowed
        self._keys = np.concatenate((self._keys, keys[own]))
        self._holders = np.concatenate((self._holders, items[own]))
        order = np.lexsort((self._holders, self._keys))
        self._keys, self._holders = self._keys[order], self._holders[order]
        self._sizes = np.bincount(self._holders, minlength=self._items)
        self._table = None
        return np.setdiff1d(known, items[own])

    def _look_up(self) -> tuple[KeyTable, Numbers]:
        """Each different key's number, and where the items that hold it begin."""
        from anneal.curation.domain.kernels.table import KeyTable

        different, begins = np.unique(self._keys, return_index=True)
        if self._table is None:
            self._table = KeyTable(different, np.arange(len(different)))
        return self._table, np.append(begins, len(self._keys))

    def find(self, batch: pa.RecordBatch) -> list[Match]:
        """The rows that hold enough of an item."""
        if not len(self._keys):
            return []
        table, begins = self._look_up()
        grams = ngrams_of(words_of(text_of(batch, "conversation")), self._ngram, short_rows=True)
        found = table.find(grams.values)
        rows = np.repeat(np.arange(batch.num_rows), grams.lengths)[found >= 0]
        pairs = np.unique(np.stack((rows, found[found >= 0]), axis=1), axis=0)
        counts = begins[pairs[:, 1] + 1] - begins[pairs[:, 1]]
        ends = np.cumsum(counts)
        places = np.arange(counts.sum()) + np.repeat(begins[pairs[:, 1]] - (ends - counts), counts)
        held = np.repeat(pairs[:, 0], counts) * self._items + self._holders[places]
        held, shared = np.unique(held, return_counts=True)
        rows, items = held // self._items, held % self._items
        shares = shared / self._sizes[items]
        best = _best(rows, items, shares, self._share)
        return [
            Match(int(rows[at]), int(items[at]), {"share": round(float(shares[at]), 6), "shared": int(shared[at])})
            for at in best.tolist()
        ]


class Vectors:
    """A row holds an item when their vectors point the same way: the cosine reaches a threshold."""

    def __init__(self, encoder: Encoder, threshold: float) -> None:
        """Know nothing yet.

        Args:
            encoder: of rows and items.
            threshold: lowest cosine.
        """
        self._encoder, self._threshold = encoder, threshold
        self._vectors = np.zeros((0, encoder.dimension), dtype=np.float32)

    def add(self, batch: pa.RecordBatch, first: int) -> NDArray[np.bool_]:
        """Know items; those that say nothing to the encoder cannot be found."""
        vectors = self._encode(batch)
        missing = first - len(self._vectors)  # items that came while this way was not asked for
        between = np.zeros((missing, self._vectors.shape[1]), dtype=np.float32)
        self._vectors = np.concatenate((self._vectors, between, vectors))
        return np.asarray(~vectors.any(axis=1))

    def close(self) -> Numbers:
        """Nothing more is lost."""
        return np.zeros(0, dtype=np.int64)

    def _encode(self, batch: pa.RecordBatch) -> NDArray[np.float32]:
        return self._encoder.encode(text_of(batch, "conversation").to_pylist())

    def find(self, batch: pa.RecordBatch) -> list[Match]:
        """The rows whose vector is near an item's."""
        vectors = self._encode(batch)
        nearest = np.full(len(vectors), -1, dtype=np.int64)
        cosines = np.full(len(vectors), -np.inf, dtype=np.float32)
        for start in range(0, len(self._vectors), _BLOCK):
            found = vectors @ self._vectors[start : start + _BLOCK].T
            here = found.argmax(axis=1)
            values = found[np.arange(len(vectors)), here]
            closer = values > cosines
            nearest[closer], cosines[closer] = here[closer] + start, values[closer]
        return [
            Match(row, int(nearest[row]), {"cosine": round(float(cosines[row]), 6)})
            for row in np.flatnonzero(cosines >= self._threshold).tolist()
        ]


class Sources:
    """A row holds an item when both come from one source, or one was made from what the other was made from."""

    def __init__(self) -> None:
        self._items: dict[str, int] = {}

    def add(self, batch: pa.RecordBatch, first: int) -> NDArray[np.bool_]:
        """Know items; those that do not say where they are from cannot be found."""
        origins = _origins(batch)
        for number, names in enumerate(origins):
            for name in names:
                self._items.setdefault(name, first + number)
        return np.array([not names for names in origins], dtype=bool)

    def close(self) -> Numbers:
        """Nothing more is lost."""
        return np.zeros(0, dtype=np.int64)

    def find(self, batch: pa.RecordBatch) -> list[Match]:
        """The rows of an item's source."""
        matches = []
        for row, names in enumerate(_origins(batch)):
            for name in names:
                if name in self._items:
                    matches.append(Match(row, self._items[name], {"source": name[:200]}))
                    break
        return matches


def _origins(batch: pa.RecordBatch) -> list[list[str]]:
    """What each row says of where it is from: its source, and the ids of the rows it was made from."""
    sources = batch.column("source").to_pylist()
    parents = batch.column("parents").to_pylist() if "parents" in batch.schema.names else [None] * len(sources)
    return [[name for name in (source, *(made or ())) if name] for source, made in zip(sources, parents, strict=True)]


def _best(rows: Numbers, items: Numbers, shares: NDArray[np.float64], least: float) -> Numbers:
    """For each row that holds enough of an item, where the item it holds most of stands; of equals the first."""
    enough = np.flatnonzero(shares >= least)
    order = enough[np.lexsort((items[enough], -shares[enough], rows[enough]))]
    _, firsts = np.unique(rows[order], return_index=True)
    return np.asarray(order[firsts])
