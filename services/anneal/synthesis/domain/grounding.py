"""A thin check that an answer rests on its source: the share of its words that the source contains.

It catches an answer about something else; it does not catch a wrong statement made of the source's own words.
"""

from __future__ import annotations

from anneal.synthesis.domain.novelty import words

_FUNCTION_WORDS = (
    "a an and are as at be been but by can could did do does for from had has have how if in into is it its may "
    "might must no not of on or shall should so such than that the their them then there these they this those to "
    "was were what when where which while who will with would you your"
)
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


def grounding(answer: str, evidence: str) -> float:
    """Share of the answer's words found in the evidence, 0 to 1; function words count only if there is nothing else."""
    said = words(answer)
    content = [word for word in said if word not in FUNCTION_WORDS] or said
    known = set(words(evidence))
    return sum(word in known for word in content) / len(content) if content else 0.0
