"""How rich the words of texts are. What too few words cannot tell is None, not zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.words import Ragged, ngrams_of, words_of

MTLD_RATIO = 0.72
"""Type-token ratio at which a factor ends: McCarthy and Jarvis 2010, Behavior Research Methods 42(2)."""
MTLD_MIN_WORDS = 100
MTLD_MAX_WORDS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Diversity:
    """Measures over texts.

    Attributes:
        words: how many words were looked at.
        type_token_ratio: different words per word, mean over the texts that have words.
        distinct_1: different words per word over all texts: Li et al. 2016, arXiv:1510.03055, section 5.
        distinct_2: different pairs of neighbouring words per pair, over all texts.
        mtld: mean number of words in a row whose type-token ratio stays above 0.72, both ways; the texts are read as
            one, up to 100,000 words.
    """

    words: int
    type_token_ratio: float | None
    distinct_1: float | None
    distinct_2: float | None
    mtld: float | None


def diversity_of(texts: Sequence[str]) -> Diversity:
    """The measures of texts, read as one text where the measure is over all."""
    words = words_of(pa.array(texts, pa.large_string()))
    pairs = ngrams_of(words, 2, short_rows=False).values
    return Diversity(
        words=len(words.values),
        type_token_ratio=_mean_ratio(words),
        distinct_1=_distinct(words.values),
        distinct_2=_distinct(pairs),
        mtld=mtld_of(words.values[:MTLD_MAX_WORDS].tolist()),
    )


def _distinct(values: NDArray[np.uint64]) -> float | None:
    return len(np.unique(values)) / len(values) if len(values) else None


def _mean_ratio(words: Ragged) -> float | None:
    lengths = words.lengths
    worded = lengths > 0
    if not worded.any():
        return None
    rows = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((words.values, rows))
    values, rows = words.values[order], rows[order]
    is_new = np.ones(len(values), dtype=bool)
    is_new[1:] = (values[1:] != values[:-1]) | (rows[1:] != rows[:-1])
    types = np.bincount(rows, weights=is_new, minlength=len(lengths))
    return float((types[worded] / lengths[worded]).mean())


def mtld_of(words: Sequence[int]) -> float | None:
    """MTLD of words known by number; None where there are fewer than 100, or none is ever repeated."""
    if len(words) < MTLD_MIN_WORDS:
        return None
    factors = [_factors(words), _factors(words[::-1])]
    return sum(len(words) / one for one in factors) / 2 if all(factors) else None


def _factors(words: Sequence[int]) -> float:
    count, tokens = 0.0, 0
    types: set[int] = set()
    for word in words:
        tokens += 1
        types.add(word)
        if len(types) / tokens <= MTLD_RATIO:
            count, tokens = count + 1, 0
            types.clear()
    if tokens:
        count += (1 - len(types) / tokens) / (1 - MTLD_RATIO)
    return count
