"""How many of some texts almost repeat another of them: what the step `fuzzy_duplicates` would take away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from anneal.curation.domain.candidates import Bands, candidate_pairs, signatures
from anneal.curation.domain.components import walk_components
from anneal.curation.domain.similarity import ShingleSets
from anneal.curation.domain.words import shingle_sets

THRESHOLD = 0.8
NGRAM = 5


def count_repetitions(texts: Sequence[str]) -> int:
    """Texts but one of each group whose Jaccard similarity of word 5-grams reaches 0.8; those without words are none.

    Args:
        texts: in any order.
    """
    column = pa.array(texts, pa.large_string())
    bands = Bands.for_threshold(THRESHOLD)
    found = signatures(column, NGRAM, bands)
    worded = np.flatnonzero(found.words > 0)
    # Texts of the same words stand behind the first of them.
    _, opens = np.unique(found.prints[worded], axis=0, return_index=True)
    alone = worded[np.sort(opens)]
    places = np.arange(len(alone))
    pairs = candidate_pairs((found.keys[band][alone] for band in range(bands.count)), places)
    shingles = shingle_sets(column.take(pa.array(alone)), NGRAM)
    similarities = ShingleSets([shingles]).jaccard(pairs, THRESHOLD)
    similar = similarities >= THRESHOLD
    reached = walk_components(pairs[similar], similarities[similar], places)
    return len(worded) - len(alone) + len(reached.rows)
