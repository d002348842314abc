"""Rows of dataset versions, to work from and to compare with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from anneal.kit.datasets import DatasetReader
from anneal.kit.messages import plain_row, said
from anneal.kit.store import Store
from anneal.synthesis.adapters.dataset_sink import row_id
from anneal.synthesis.domain.engine import Checks
from anneal.synthesis.domain.novelty import NoveltyIndex
from anneal.synthesis.domain.recipe import Recipe


def make_checks(recipe: Recipe, store: Store, against: Sequence[str]) -> Checks:
    """The checks of a run, knowing the rows there are."""
    novelty = NoveltyIndex(max_overlap=recipe.max_overlap, ngram=recipe.ngram_words)
    for digest in against:
        for row in read_rows(DatasetReader(store, digest)):
            turns = [said(turn) for turn in row.get("messages") or () if turn["role"] != "system"]
            novelty.add("\n".join(turns), str(row["id"]))
    return Checks(novelty=novelty, min_grounding=recipe.min_grounding, identify=row_id)


def read_rows(reader: DatasetReader) -> Iterator[Mapping[str, Any]]:
    """The rows of a dataset version, one batch in memory; messages have the fields they have, and no others."""
    for batch in reader.batches():
        yield from map(plain_row, batch.to_pylist())
