"""Every chunk stands where it says, whatever the text."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.ingestion.adapters.chunks import cut
from anneal.ingestion.domain.documents import ParsedDocument

MARKS = st.sampled_from(["# ", "\n", "\n\n", "- ", "word ", "Größe ", "\U0001f469\u200d\U0001f52c", "```\n", ". "])
TEXTS = st.lists(st.one_of(MARKS, st.text(max_size=12)), max_size=60).map("".join)


@pytest.mark.parametrize("media_type", ["text/plain", "text/markdown"])
@given(text=TEXTS, limit=st.integers(16, 80), overlap=st.integers(0, 15))
def test_chunks_are_pieces_of_their_document(media_type: str, text: str, limit: int, overlap: int) -> None:
    chunks = list(cut(ParsedDocument(text, "", "a", media_type), limit, overlap))
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    covered = 0
    for chunk in chunks:
        assert 0 < chunk.end - chunk.start <= limit
        assert not text[covered : chunk.start].strip()  # nothing but white space is lost between chunks
        covered = max(covered, chunk.end)
    assert not text[covered:].strip()


def test_neighbours_share_what_was_asked_for() -> None:
    text = " ".join(f"word{index}" for index in range(40))
    document = ParsedDocument(text, "", "a", "text/plain")
    apart, shared = list(cut(document, 50, 0)), list(cut(document, 50, 20))
    assert all(left.end <= right.start for left, right in itertools.pairwise(apart))
    overlaps = [left.end - right.start for left, right in itertools.pairwise(shared)]
    assert 0 < max(overlaps) <= 20
