from __future__ import annotations

import re
import unicodedata

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given
from hypothesis import strategies as st

from anneal.curation.domain.texts import normalized, text_of, whole_of
from anneal.curation.domain.words import fingerprints_of, ngrams_of, words_of
from tests.unit.curation.rows import asked, batch_of, said

TEXTS = st.lists(st.text(st.sampled_from("ab1_ .\n\té世ßΣ😀İ\u2028\x85ﬁ"), max_size=30), max_size=20)


def large(texts: list[str]) -> pa.Array:
    return pa.array(texts, pa.large_string())


@given(TEXTS)
def test_words_are_those_of_re(texts: list[str]) -> None:
    lowered = pc.utf8_lower(large(texts)).to_pylist()
    words = words_of(large(texts))
    seen: dict[str, int] = {}
    for row, text in enumerate(lowered):
        expected = re.findall(r"\w+", text)
        assert words.lengths[row] == len(expected)
        for word, value in zip(expected, words.row(row).tolist(), strict=True):
            assert seen.setdefault(word, value) == value
    assert len(set(seen.values())) == len(seen)


def test_words_of_any_length_differ_in_one_letter() -> None:
    texts = [f"{'x' * n}{end}" for n in (0, 6, 7, 8, 15, 16, 62, 63, 64, 65, 500) for end in "yz"]
    assert len(set(words_of(large(texts)).values.tolist())) == len(texts)


@given(TEXTS)
def test_normalized_is_nfkc_lower_and_collapsed(texts: list[str]) -> None:
    lowered = pc.utf8_lower(large([unicodedata.normalize("NFKC", text) for text in texts])).to_pylist()
    assert normalized(large(texts)).to_pylist() == [" ".join(text.split()) for text in lowered]


def test_a_conversation_has_parts() -> None:
    rows = [said(("system", "S"), ("user", "U"), ("assistant", "A")), said(("user", "only")), said(), asked("", "x")]
    batch = batch_of(rows)
    assert text_of(batch, "prompt").to_pylist() == ["S\nU", "only", "", ""]
    assert text_of(batch, "answer").to_pylist() == ["A", "", "", "x"]
    assert text_of(batch, "conversation").to_pylist() == ["S\nU\nA", "only", "", "\nx"]
    assert text_of(batch.slice(1, 2), "prompt").to_pylist() == ["only", ""]
    assert len(set(whole_of(batch_of([asked("a", "b"), said(("user", "a"), ("user", "b"))])).to_pylist())) == 2


def test_nulls_are_empty_texts() -> None:
    rows = [{**asked("a", "b"), "messages": None}, {**asked("a", "b"), "messages": [{"role": None, "content": None}]}]
    assert text_of(batch_of(rows), "conversation").to_pylist() == ["", ""]


def test_ngrams_by_hand() -> None:
    words = words_of(large(["a b c d", "b c d", "a b", ""]))
    threes = ngrams_of(words, 3, short_rows=True)
    assert threes.lengths.tolist() == [2, 1, 1, 0]
    assert threes.row(0)[1] == threes.row(1)[0]
    assert ngrams_of(words, 3, short_rows=False).lengths.tolist() == [2, 1, 0, 0]


def test_fingerprints_tell_orders_apart() -> None:
    prints = fingerprints_of(words_of(large(["a b", "b a", "A, b!", "", "a b b"])))
    assert len({tuple(one) for one in prints.tolist()}) == 4
    assert prints[0].tolist() == prints[2].tolist()
