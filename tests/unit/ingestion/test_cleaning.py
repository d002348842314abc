"""Cleaning: one normal form, one line end, nothing that cannot be stored; what carries meaning stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.ingestion.domain.cleaning import clean, clean_document


@pytest.mark.parametrize(
    ("dirty", "cleaned"),
    [
        ("a\r\nb\rc\u2028d\u2029e\x85f\x0bg\x0ch", "a\nb\nc\nd\ne\nf\ng\nh"),
        ("e\u0301", "\u00e9"),
        ("\ufeffzero\u200bwidth\u00ad\u2060", "zerowidth"),
        ("nul\x00 bell\x07 escape\x1b delete\x7f", "nul bell escape delete"),
        ("half\ud800 pair\udfff \uffff", "half pair "),
    ],
)
def test_what_cannot_be_stored_or_compared_goes(dirty: str, cleaned: str) -> None:
    assert clean(dirty) == cleaned


@pytest.mark.parametrize("text", ["tab\tand\nfeed", "\u0645\u06cc\u200c\u062e", "\U0001f469\u200d\U0001f52c", "a  b"])
def test_what_carries_meaning_stays(text: str) -> None:
    assert clean(text) == text


def test_a_document_loses_white_space_at_line_ends_and_around() -> None:
    assert clean_document("\n\n  a  \nb\t\n\n") == "  a\nb"


@given(st.text())
def test_cleaning_again_changes_nothing(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    once.encode()
