"""Every chunk stands where it says, whatever the text, is neither too long nor too short, and says something."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.ingestion.adapters.chunks import cut
from anneal.ingestion.domain.chunk_joining import Joiner, says_nothing
from anneal.ingestion.domain.documents import ParsedDocument

MARKS = st.sampled_from(["# ", "\n", "\n\n", "- ", "word ", "Größe ", "\U0001f469\u200d\U0001f52c", "```\n", ". "])
TEXTS = st.lists(st.one_of(MARKS, st.text(max_size=12)), max_size=60).map("".join)
BLOCKS = st.sampled_from(
    [
        "# Title\n\n",
        "## A heading that is longer\n\n",
        "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |\n\n",
        "```json\n{\n",
        "}\n```\n\n",
        "One sentence of a few words. ",
        "短句子。",
        "- item\n",
        "---\n\n",
        "word",
        "\n\n",
    ]
)
DOCUMENTS = st.lists(BLOCKS, min_size=1, max_size=60).map("".join).filter(lambda text: bool(text.strip()))


def markdown(text: str) -> ParsedDocument:
    return ParsedDocument(text, "", "a", "text/markdown")


@pytest.mark.parametrize("media_type", ["text/plain", "text/markdown"])
@given(text=TEXTS, limit=st.integers(16, 80), overlap=st.integers(0, 15), share=st.floats(0, 1))
def test_chunks_are_pieces_of_their_document(
    media_type: str, text: str, limit: int, overlap: int, share: float
) -> None:
    chunks = list(cut(ParsedDocument(text, "", "a", media_type), limit, overlap, int(share * (limit // 2))))
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    covered = 0
    for chunk in chunks:
        assert 0 < chunk.end - chunk.start <= limit
        assert not text[covered : chunk.start].strip()  # nothing but white space is lost between chunks
        covered = max(covered, chunk.end)
    assert not text[covered:].strip()


@given(text=DOCUMENTS, limit=st.integers(60, 200), share=st.floats(0, 1))
def test_only_a_shorter_document_makes_a_shorter_chunk(text: str, limit: int, share: float) -> None:
    shortest = int(share * (limit // 2))
    chunks = list(cut(markdown(text), limit, 0, shortest))
    if len(text.strip()) >= shortest:
        assert all(chunk.end - chunk.start >= shortest for chunk in chunks)
    assert len(chunks) == 1 or len(text.strip()) > shortest


@given(text=DOCUMENTS, limit=st.integers(100, 300))
def test_no_chunk_says_nothing_in_a_document_that_says_something(text: str, limit: int) -> None:
    mute = [chunk for chunk in cut(markdown(text), limit, 0) if says_nothing(text[chunk.start : chunk.end])]
    # Where headings and rules alone are nearly as long as a chunk, nothing that speaks fits beside them.
    window = limit // 2
    assert not mute or any(says_nothing(text[at : at + window]) for at in range(max(1, len(text) - window + 1)))


@pytest.mark.parametrize(
    ("text", "is_mute"),
    [
        ("# Prices", True),
        ("Prices\n======", True),
        ("| Product | Price |\n| --- | :-: |", True),
        ("| Product | Price |\n| --- | --- |\n| Pen | 3 |", False),
        ("```json", True),
        ("```\n\n---", True),
        ("- * -", True),
        ("# Prices\n\nThey rise.", False),
        ("价格上涨。", False),
        ("x = 1", False),
    ],
)
def test_what_says_nothing(text: str, is_mute: bool) -> None:
    assert says_nothing(text) is is_mute


def test_a_heading_goes_to_what_it_introduces() -> None:
    first, second = "First words of some length here.", "# Heading\n\nWhat stands below it, of some length."
    text = f"{first}\n\n{second}"
    start = len(first) + 2
    joiner = Joiner(text=text, max_characters=60)
    assert joiner.join([(0, len(first)), (start, start + 9), (start + 11, len(text))]) == [
        (0, len(first)), (start, len(text))
    ]  # fmt: skip


def test_a_heading_before_a_full_chunk_takes_the_beginning_of_it() -> None:
    text = "# Table\n\n" + "\n".join(f"| row {index} | {index} |" for index in range(10, 20))
    joiner = Joiner(text=text, max_characters=len(text) - 9)
    first, second = joiner.join([(0, 7), (9, len(text))])
    assert text[first[0] : first[1]].startswith("# Table\n\n| row 10 | 10 |")
    assert text[second[0]] == "|"
    assert first[1] + 1 == second[0]


def test_a_short_last_chunk_is_merged_or_takes_from_the_one_before() -> None:
    text = "One sentence of words. Two sentences of words. End."
    assert Joiner(text=text, max_characters=60, min_characters=10).join([(0, 46), (47, 51)]) == [(0, 51)]
    (_, cut_at), (start, end) = Joiner(text=text, max_characters=46, min_characters=10).join([(0, 46), (47, 51)])
    assert (text[:cut_at], text[start:end]) == ("One sentence of words.", "Two sentences of words. End.")


def test_neighbours_share_what_was_asked_for() -> None:
    text = " ".join(f"word{index}" for index in range(40))
    document = ParsedDocument(text, "", "a", "text/plain")
    apart, shared = list(cut(document, 50, 0)), list(cut(document, 50, 20))
    assert all(left.end <= right.start for left, right in itertools.pairwise(apart))
    overlaps = [left.end - right.start for left, right in itertools.pairwise(shared)]
    assert 0 < max(overlaps) <= 20


def test_what_was_moved_over_is_shared_as_well() -> None:
    text = " ".join(f"word{index:02}" for index in range(12))
    (_, end), (start, _) = Joiner(text=text, max_characters=76, min_characters=30, overlap=10).join([(0, 76), (77, 83)])
    assert 0 < end - start <= 10
    assert text[start:].startswith("word")
