"""The language of texts, by py3langid (Lui and Baldwin 2012, "langid.py"); its model comes with the package."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

UNKNOWN = "und"
"""BCP 47's `undetermined`."""
MIN_PROBABILITY = 0.9
MIN_LETTERS = 20
"""A text of fewer letters says too little."""
_CHARACTERS = 2_000


def languages_of(texts: Sequence[str]) -> Counter[str]:
    """How many texts are in which language, by its ISO 639-1 code; `und` where that cannot be told."""
    return Counter(language_of(text) for text in texts)


def language_of(text: str) -> str:
    """The language of the beginning of a text."""
    shown = text[:_CHARACTERS]
    if sum(map(str.isalpha, shown)) < MIN_LETTERS:
        return UNKNOWN
    code, probability = _identifier().classify(shown)
    return str(code) if probability >= MIN_PROBABILITY else UNKNOWN


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
