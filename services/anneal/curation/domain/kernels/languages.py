"""The most likely language of texts, by naive Bayes over byte n-grams that an automaton finds."""

from __future__ import annotations

from math import exp, sqrt
from typing import Any

import numpy as np
from numba import types

from anneal.curation.domain.kernels.base import I64, I64_2D, U8, U32, helper, kernel

I32 = types.Array(types.int32, 1, "C", readonly=True)
F32 = types.Array(types.float32, 1, "C", readonly=True)
F32_2D = types.Array(types.float32, 2, "C", readonly=True)


@helper
def _visit(octets: Any, start: Any, end: Any, moves: Any, bases: Any, features: Any, counts: Any, seen: Any) -> Any:
    """Count the features of a text; returns how many different ones there are, the first of `seen`."""
    state, found = 0, 0
    for at in range(start, end):
        state = moves[bases[state] + octets[at]]
        feature = features[state]
        if feature >= 0:
            if counts[feature] == 0:
                seen[found] = feature
                found += 1
            counts[feature] += 1
    return found


@helper
def _normalise(scores: Any, size: Any, aliases: Any) -> None:
    """From logarithms to probabilities, made milder for long texts; those of a language's second column are added."""
    milder = 1.0 / sqrt(max(size, 1))
    most = scores.max()
    total = 0.0
    for language in range(len(scores)):
        scores[language] = exp((scores[language] - most) * milder)
        total += scores[language]
    for language in range(len(scores)):
        scores[language] /= total
    for pair in range(len(aliases)):
        scores[aliases[pair, 0]] += scores[aliases[pair, 1]]
        scores[aliases[pair, 1]] = 0.0


@kernel(U8, I64, U32, I64, I32, F32_2D, F32, F32, I64_2D)
def likeliest(
    octets: Any,
    offsets: Any,
    moves: Any,
    bases: Any,
    features: Any,
    weights: Any,
    priors: Any,
    logs: Any,
    aliases: Any,
) -> Any:
    """The most likely language of each text and its probability.

    Args:
        octets: of all texts.
        offsets: where each begins, and where the last ends.
        moves: the automaton: the next state for each byte, from the base of a state on.
        bases: of each state in `moves`.
        features: that each state stands for; -1 for none.
        weights: logarithm of a feature's likelihood in each language; shape (features, languages).
        priors: of each language.
        logs: logarithms of 1 + how often a feature is there, up to the bytes of the longest text.
        aliases: pairs of columns that are one language; shape (pairs, 2).
    """
    rows = len(offsets) - 1
    best, sure = np.zeros(rows, np.int64), np.zeros(rows, np.float64)
    counts, seen = np.zeros(len(weights), np.int32), np.empty(len(logs), np.int32)
    sums, scores = np.empty(len(priors), np.float32), np.empty(len(priors), np.float64)
    for row in range(rows):
        start, end = offsets[row], offsets[row + 1]
        found = _visit(octets, start, end, moves, bases, features, counts, seen)
        sums[:] = np.float32(0)
        for place in range(found):
            feature = seen[place]
            weight, of_feature = logs[counts[feature]], weights[feature]
            counts[feature] = 0
            for language in range(len(sums)):
                sums[language] += weight * of_feature[language]
        for language in range(len(sums)):
            scores[language] = sums[language] + priors[language] if found else 0.0
        _normalise(scores, end - start, aliases)
        best[row] = scores.argmax()
        sure[row] = scores[best[row]]
    return best, sure
