"""A handful of rows, made in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

from anneal.kit.datasets import DatasetReader
from anneal.kit.store import Store
from anneal.synthesis import codec
from anneal.synthesis.adapters.dataset_sink import encode_row
from anneal.synthesis.adapters.dataset_source import make_checks, read_rows
from anneal.synthesis.domain.recipe import Recipe
from anneal.synthesis.domain.rows import Draft, Removed
from anneal.v1 import synthesis_service_pb2 as pb

MAX_DOCUMENTS = 32


def preview(store: Store, digests: Sequence[str], recipe: Recipe, max_rows: int) -> pb.PreviewSynthesisResponse:
    """Rows of the first version's first documents, compared with the other versions; blocking, for a thread."""
    checks = make_checks(recipe, store, digests[1:])
    documents = list(islice(read_rows(DatasetReader(store, digests[0])), MAX_DOCUMENTS))
    rows, removed, quarantined = [], Counter[tuple[str, str]](), 0
    for found in recipe.generator.propose(documents):
        if isinstance(found, Draft):
            found = checks(found)
        if isinstance(found, Draft):
            rows.append(encode_row(found))
        elif isinstance(found, Removed):
            removed[found.step, found.reason] += 1
        else:
            quarantined += 1
        if len(rows) == max_rows:
            break
    return codec.encode_preview(rows, removed, quarantined, len(documents))
