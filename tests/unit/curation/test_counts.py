from __future__ import annotations

import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.curation.domain.counts import count_fields, count_tokens, count_words

# The pattern of cl100k_base for ASCII, without the rule that keeps `'s` together (it is part of the second here).
PIECES = re.compile(r"[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]{1,3}| ?[^\sA-Za-z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def tokens(*texts: str) -> list[int]:
    return [int(count) for count in count_tokens(pa.array(texts, pa.large_string()))]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        (" ", 1),
        ("Hello world", 2),
        ("don't do it", 4),
        ("x = foo(bar, 12345)", 9),
        ("if x:\n    return y\n", 7),
        ("a.\n\nb", 3),
        ("a\n\nb", 3),
        ("über straße", 2),
        ("\u65e5\u672c\u8a9e", 3),
        ("😀😀 x", 3),
        ("a" * 16, 1),
        ("a" * 17, 2),
        ("a" * 1_000_000, 62_500),
        ("a " * 1_000, 1_001),
    ],
)
def test_tokens_are_counted_as_pre_tokenizers_cut(text: str, count: int) -> None:
    assert tokens(text, "x", text) == [count, 1, count]


def test_the_estimate_is_near_the_pattern_on_this_file() -> None:
    with open(__file__, encoding="utf-8") as file:
        text = file.read().encode("ascii", "ignore").decode()
    assert tokens(text)[0] == pytest.approx(len(PIECES.findall(text)), rel=0.03)


def test_a_long_row_is_cut_at_fixed_places() -> None:
    text = "word " * 2_000_000
    before, long, after = tokens("a", text, "b")
    assert (before, after) == (1, 1)
    # Each cut can split a word.
    assert 0 <= long - 2_000_001 <= 2
    assert tokens(text) == [long]


TEXTS = st.lists(st.text() | st.text(alphabet="aB1_ \n\t.,'é日 "), max_size=8)


@given(TEXTS)
def test_counts_do_not_depend_on_the_other_rows(texts: list[str]) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    together = pa.array(texts, pa.large_string())
    alone = [pa.array([text], pa.large_string()) for text in texts]
    assert count_tokens(together).tolist() == [count_tokens(text)[0] for text in alone]
    assert count_words(together).tolist() == [len(re.findall(r"\w+", text)) for text in texts]
    fields, lettered = count_fields(together)
    assert fields.tolist() == [len(re.findall(r"[^\t-\r\x1c-\x20]+", text)) for text in texts]
    assert (lettered <= fields).all()


def test_fields_with_letters() -> None:
    fields, lettered = count_fields(pa.array(["a1 22 -- é « … 日", ""], pa.large_string()))
    assert (fields.tolist(), lettered.tolist()) == ([7, 0], [3, 0])
