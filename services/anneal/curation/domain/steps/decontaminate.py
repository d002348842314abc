"""Take out of the training rows what benchmarks ask.

Two methods: `exact`, a row's normalised prompt is an item's; `ngram`, a row shares a word n-gram with an item's
question and answer (13 words: Brown et al. 2020, arXiv:2005.14165, appendix C). Only rows that are trained on leave:
rows of the split test never do.

It fails closed: a benchmark without items, or with an item that no method can find again, makes the index incomplete,
and an incomplete index is refused. Deviation from the paper: n-grams that more than `max_item_share` of one benchmark's
items hold are left out, since they are its wording and would empty the training set; rows are dropped, not cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pyarrow as pa

from anneal.curation.domain.contamination import Index
from anneal.curation.domain.steps.base import Removal, Removals, need

Method = Literal["exact", "ngram"]
MIN_NGRAM, MAX_NGRAM = 3, 100
MAX_BENCHMARKS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Decontaminate:
    """Drop training and validation rows that hold a benchmark item.

    Attributes:
        benchmarks: resource names, 1 to 1,000.
        methods: how rows are compared.
        ngram: words per n-gram, 3 to 100; a shorter item is found in rows of exactly its words.
        max_item_share: n-grams held by more than this share of a benchmark's items, and by more than 10 items, do not
            count; above 0, at most 1.

    Raises:
        WrongSetting: a setting is outside its limits, or a benchmark or method is named twice.
    """

    benchmarks: tuple[str, ...]
    methods: tuple[Method, ...] = ("exact", "ngram")
    ngram: int = 13
    max_item_share: float = 0.05

    def __post_init__(self) -> None:
        count = len(self.benchmarks)
        need(0 < count <= MAX_BENCHMARKS, "benchmarks", f"{count} are not within 1 and {MAX_BENCHMARKS}")
        need(len(set(self.benchmarks)) == count, "benchmarks", "one is named twice")
        need(0 < len(self.methods) == len(set(self.methods)), "methods", "none is named, or one twice")
        need(MIN_NGRAM <= self.ngram <= MAX_NGRAM, "ngram", f"{self.ngram} is not within {MIN_NGRAM} and {MAX_NGRAM}")
        need(0 < self.max_item_share <= 1, "max_item_share", f"{self.max_item_share} is not above 0 and at most 1")

    def index(self) -> Index:
        """An empty index for these settings; add every benchmark to it."""
        return Index(self.ngram, self.max_item_share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decontamination:
    """A `Decontaminate` with its index."""

    spares_test: ClassVar[bool] = True

    step: Decontaminate
    index: Index

    def judge(self, batch: pa.RecordBatch) -> Removals:
        """The rows that hold an item, with the item and, for n-grams, how many they share."""
        removals: dict[int, Removal] = {}
        if "exact" in self.step.methods:
            for touch in self.index.equal_prompts(batch):
                benchmark, item = self.index.items[touch.item]
                removals[touch.row] = Removal("exact_match", {"benchmark": benchmark}, item)
        if "ngram" in self.step.methods:
            for touch in self.index.shared_ngrams(batch):
                benchmark, item = self.index.items[touch.item]
                numbers = {"benchmark": benchmark, "ngram": self.step.ngram, "shared": touch.ngrams}
                removals.setdefault(touch.row, Removal("ngram_overlap", numbers, item))
        return removals
