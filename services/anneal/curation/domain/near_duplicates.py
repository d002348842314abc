"""How many of some texts almost repeat another of them: what the step `fuzzy_duplicates` would take away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from anneal.curation.domain.candidates import Bands
from anneal.curation.domain.components import walk_components
from anneal.curation.domain.similarity import ShingleSets
from anneal.curation.domain.steps.fuzzy_duplicates import Groups
from anneal.curation.domain.words import Ragged, fingerprints_of, ngrams_of, words_of

THRESHOLD = 0.8
NGRAM = 5


def count_near_duplicates(texts: Sequence[str]) -> int:
    """Texts but one of each group whose Jaccard similarity of word 5-grams reaches 0.8; those without words are none.

    Args:
        texts: in any order.
    """
    words = words_of(pa.array(texts, pa.large_string()))
    worded = words.lengths > 0
    words = Ragged(words.values, words.offsets[np.append(True, worded)])
    if not len(words.lengths):
        return 0
    shingles = ngrams_of(words, NGRAM, short_rows=True)
    ranks = np.arange(len(words.lengths))
    groups = Groups.of(fingerprints_of(words), Bands.for_threshold(THRESHOLD).keys_of(shingles), ranks)
    similarities = ShingleSets(shingles).jaccard(groups.pairs, THRESHOLD)
    similar = similarities >= THRESHOLD
    reached = sum(1 for _ in walk_components(groups.pairs[similar], similarities[similar], ranks))
    return reached + int((groups.heads != ranks).sum())
