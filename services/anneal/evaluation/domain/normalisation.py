"""SQuAD's normalisation of an answer.

Rule: Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1, as in the official evaluation script of version 2.0
(Rajpurkar et al. 2018, arXiv:1806.03822): lower case, then ASCII punctuation removed, then the articles a, an and
the, then white space joined.
"""

from __future__ import annotations

import re
import string

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """The text as SQuAD compares it."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def words(text: str) -> list[str]:
    """The words of the normalised text."""
    return normalise(text).split()
