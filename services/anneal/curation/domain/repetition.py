"""How many of some texts almost repeat another of them: what the step `fuzzy_duplicates` would take away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from anneal.curation.domain.candidates import Bands, bucket_order, candidate_pairs, ends_of, signatures
from anneal.curation.domain.similarity import ShingleSets
from anneal.curation.domain.words import shingle_sets

THRESHOLD = 0.8
NGRAM = 5


def count_repetitions(texts: Sequence[str]) -> int:
    """Texts but one of each group whose Jaccard similarity of word 5-grams reaches 0.8; those without words are none.

    Args:
        texts: in any order.
    """
    from anneal.curation.domain.kernels.pairs import roots

    column = pa.array(texts, pa.large_string())
    bands = Bands.for_threshold(THRESHOLD)
    found = signatures(column, NGRAM, bands)
    worded = np.flatnonzero(found.words > 0)
    # Texts of the same words stand behind the first of them.
    _, opens = np.unique(found.prints[worded], axis=0, return_index=True)
    alone = worded[np.sort(opens)]
    everyone = np.arange(len(alone))
    order = bucket_order(found.words[alone], found.prints[alone, 0])
    pairs = candidate_pairs(((keys[alone], everyone) for keys in found.keys), order)
    left, right = ends_of(pairs.codes)
    shingles = shingle_sets(column.take(pa.array(alone)), NGRAM)
    similar = ShingleSets.of([shingles]).jaccard(left, right, THRESHOLD) >= THRESHOLD
    first = roots(left[similar], right[similar], len(alone))
    return int(len(worded) - np.count_nonzero(first == everyone))
