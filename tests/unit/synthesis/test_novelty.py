from __future__ import annotations

import pytest

from anneal.synthesis.domain.grounding import grounding
from anneal.synthesis.domain.novelty import NoveltyIndex


def index(max_overlap: float = 0.5, ngram: int = 2) -> NoveltyIndex:
    return NoveltyIndex(max_overlap=max_overlap, ngram=ngram)


def test_the_same_words_are_a_duplicate_whatever_their_case_and_marks() -> None:
    seen = index(1.0)
    seen.add("What is \ufb01re?", "row-1")
    familiar = seen.familiar("what IS: fire")
    assert familiar is not None
    assert (familiar.duplicate_of, familiar.overlap) == ("row-1", 1.0)


def test_overlap_counts_shares_of_ngrams_and_its_limit_is_still_kept() -> None:
    seen = index(0.5)
    seen.add("a b c", "row-1")
    assert seen.familiar("a b x") is None  # 1 of 2
    familiar = seen.familiar("a b c d")  # 2 of 3
    assert familiar is not None
    assert familiar.duplicate_of is None
    assert familiar.overlap == pytest.approx(2 / 3)


def test_texts_shorter_than_an_ngram_are_compared_as_a_whole() -> None:
    seen = index(0.1, ngram=5)
    seen.add("a b", "row-1")
    assert seen.familiar("a c") is None
    assert seen.familiar("a b") is not None


def test_at_one_only_equal_texts_are_familiar() -> None:
    seen = index(1.0)
    seen.add("a b c d", "row-1")
    assert seen.familiar("a b c") is None


@pytest.mark.parametrize(
    ("answer", "evidence", "share"),
    [
        ("Copies the file.", "copies a FILE now", 1.0),
        ("Copies the moon.", "copies a file now", 0.5),
        ("The moon.", "a file", 0.0),
        ("It is.", "it is so", 1.0),
        ("", "x", 0.0),
        ("42", "41 and 43", 0.0),
    ],
)
def test_grounding_is_the_share_of_content_words_in_the_evidence(answer: str, evidence: str, share: float) -> None:
    assert grounding(answer, evidence) == share
