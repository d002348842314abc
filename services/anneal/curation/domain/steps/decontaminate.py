"""Take out of the training rows what benchmarks ask.

The methods, in the order in which a row is judged:

- `exact`: a row's normalised prompt is an item's;
- `ngram`: a row shares a word n-gram with an item's question, choices and answer (13 words: Brown et al. 2020,
  arXiv:2005.14165, appendix C), or, with `min_ngram_share`, that share of the item's n-grams (8 words and 0.7:
  Chowdhery et al. 2022, arXiv:2204.02311, section 8, about the question: `item_part` is `prompt` there);
- `fuzzy`: a row holds most of an item's short n-grams, in any order;
- `semantic`: a row's vector points where an item's does;
- `source`: a row is from the source of an item, or was made from the same rows.

Only rows that are trained on leave: rows of the split test never do.

It fails closed: a benchmark without items, or with an item that no method can find again, makes the index incomplete,
and an incomplete index is refused. Deviation from the papers: n-grams that more than `max_item_share` of one
benchmark's items hold are left out, since they are its wording and would empty the training set; rows are dropped, not
cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pyarrow as pa

from anneal.curation.domain.contamination import Index
from anneal.curation.domain.encoders import Encoder, EncoderSpec, Hashing
from anneal.curation.domain.matchers import Matcher, Shares, Sources, Vectors
from anneal.curation.domain.steps.base import Removal, Removals, need
from anneal.curation.domain.texts import Part

Method = Literal["exact", "ngram", "fuzzy", "semantic", "source"]
MIN_NGRAM, MAX_NGRAM = 3, 100
MAX_BENCHMARKS = 1_000
ALL = "*"
REASONS: dict[Method, str] = {
    "exact": "exact_match",
    "ngram": "ngram_overlap",
    "fuzzy": "fuzzy_overlap",
    "semantic": "semantic_match",
    "source": "same_source",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decontaminate:
    """Drop training and validation rows that hold a benchmark item.

    Attributes:
        benchmarks: resource names, 1 to 1,000; or `*` alone for all of the project.
        methods: how rows are compared.
        ngram: words per n-gram of `ngram`, 3 to 100; a shorter item is found in rows of exactly its words.
        min_ngram_share: share of an item's n-grams that a row must hold, 0 to 1; 0 for any one of them.
        item_part: what of an item is looked for by shares of n-grams.
        max_item_share: n-grams held by more than this share of a benchmark's items, and by more than 10 items, do not
            count; above 0, at most 1.
        fuzzy_ngram: words per n-gram of `fuzzy`, 1 to 100.
        fuzzy_threshold: share of an item's n-grams that a row must hold for `fuzzy`, above 0, at most 1.
        encoder: what gives the vectors of `semantic`.
        semantic_threshold: lowest cosine for `semantic`, above 0, at most 1.

    Raises:
        WrongSetting: a setting is outside its limits, or a benchmark or method is named twice.
    """

    benchmarks: tuple[str, ...]
    methods: tuple[Method, ...] = ("exact", "ngram")
    ngram: int = 13
    min_ngram_share: float = 0.0
    item_part: Part = "conversation"
    max_item_share: float = 0.05
    fuzzy_ngram: int = 4
    fuzzy_threshold: float = 0.8
    encoder: EncoderSpec = field(default_factory=Hashing)
    semantic_threshold: float = 0.9

    def __post_init__(self) -> None:
        count = len(self.benchmarks)
        need(0 < count <= MAX_BENCHMARKS, "benchmarks", f"{count} are not within 1 and {MAX_BENCHMARKS}")
        need(len(set(self.benchmarks)) == count, "benchmarks", "one is named twice")
        need(ALL not in self.benchmarks or count == 1, "benchmarks", f"{ALL} stands for all: name no other beside it")
        need(0 < len(self.methods) == len(set(self.methods)), "methods", "none is named, or one twice")
        need(MIN_NGRAM <= self.ngram <= MAX_NGRAM, "ngram", f"{self.ngram} is not within {MIN_NGRAM} and {MAX_NGRAM}")
        need(0 <= self.min_ngram_share <= 1, "min_ngram_share", f"{self.min_ngram_share} is not within 0 and 1")
        need(0 < self.max_item_share <= 1, "max_item_share", f"{self.max_item_share} is not above 0 and at most 1")
        need(1 <= self.fuzzy_ngram <= MAX_NGRAM, "fuzzy_ngram", f"{self.fuzzy_ngram} is not within 1 and {MAX_NGRAM}")
        for name in ("fuzzy_threshold", "semantic_threshold"):
            value = getattr(self, name)
            need(0 < value <= 1, name, f"{value} is not above 0 and at most 1")

    def compares_with(self, benchmark: str) -> bool:
        """Whether rows are compared with a benchmark of the project."""
        return ALL in self.benchmarks or benchmark in self.benchmarks

    def index(self, encoder: Encoder | None = None) -> Index:
        """An empty index for these settings; add every benchmark to it.

        Args:
            encoder: what `encoder` says; without one, items are not compared by their vectors.
        """
        matchers: dict[str, Matcher] = {}
        methods: Sequence[Method] = self.methods
        if "ngram" in methods and self.min_ngram_share:
            matchers["ngram"] = Shares(self.ngram, self.min_ngram_share, self.item_part, self.max_item_share)
        if "fuzzy" in methods:
            matchers["fuzzy"] = Shares(self.fuzzy_ngram, self.fuzzy_threshold, self.item_part, self.max_item_share)
        if "semantic" in methods and encoder is not None:
            matchers["semantic"] = Vectors(encoder, self.semantic_threshold)
        if "source" in methods:
            matchers["source"] = Sources()
        return Index(self.ngram, self.max_item_share, matchers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decontamination:
    """A `Decontaminate` with its index."""

    spares_test: ClassVar[bool] = True

    step: Decontaminate
    index: Index

    def judge(self, batch: pa.RecordBatch) -> Removals:
        """The rows that hold an item, with the item and what was measured."""
        removals: dict[int, Removal] = {}
        if "exact" in self.step.methods:
            for touch in self.index.equal_prompts(batch):
                benchmark, item = self.index.items[touch.item]
                removals[touch.row] = Removal(REASONS["exact"], {"benchmark": benchmark}, item)
        if "ngram" in self.step.methods and not self.step.min_ngram_share:
            for touch in self.index.shared_ngrams(batch):
                benchmark, item = self.index.items[touch.item]
                numbers = {"benchmark": benchmark, "ngram": self.step.ngram, "shared": touch.ngrams}
                removals.setdefault(touch.row, Removal(REASONS["ngram"], numbers, item))
        for method in self.step.methods:
            matcher = self.index.matchers.get(method)
            for match in matcher.find(batch) if matcher is not None else ():
                benchmark, item = self.index.items[match.item]
                removals.setdefault(
                    match.row, Removal(REASONS[method], {"benchmark": benchmark, **match.numbers}, item)
                )
        return removals
