"""What overviews are made of: samples, forms, words, repetition, topics."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anneal.curation.domain.forms import forms_of
from anneal.curation.domain.hashing_encoder import HashingEncoder
from anneal.curation.domain.languages import count_languages
from anneal.curation.domain.lexical import diversity_of, mtld_of
from anneal.curation.domain.overview import look_over
from anneal.curation.domain.repetition import count_repetitions
from anneal.curation.domain.sampling import SAMPLE_CHARACTERS, Sampler
from anneal.curation.domain.topics import find_topics, map_of
from anneal.curation.exploring import excerpt_of
from tests.unit.curation.rows import asked, batch_of, compared


def sampled(rows: list[dict[str, Any]], limit: int, batch_rows: int) -> list[str]:
    sampler = Sampler(limit)
    for first in range(0, len(rows), batch_rows):
        sampler.add(batch_of(rows[first : first + batch_rows]))
    return list(sampler.sample().ids)


@given(st.integers(1, 30), st.integers(1, 40), st.randoms())
@settings(max_examples=40, deadline=None)
def test_a_sample_depends_on_the_rows_alone(limit: int, batch_rows: int, chance: random.Random) -> None:
    rows = [asked(f"q{n}", "a") for n in range(60)]
    found = sampled(rows, limit, 60)
    assert len(found) == limit
    chance.shuffle(rows)
    assert sampled(rows, limit, batch_rows) == found


def test_a_sample_of_more_than_there_are_is_all_and_keeps_the_beginning_of_texts() -> None:
    sampler = Sampler(10)
    sampler.add(batch_of([asked("q", "x" * (SAMPLE_CHARACTERS + 5))]))
    (text,) = sampler.sample().texts
    assert (len(text), text[:3]) == (SAMPLE_CHARACTERS, "q\nx")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("The mat is where the cat sat.", "plain"),
        ("If you see this, for example:\nwith all we have,\nreturn home, then import nothing.", "plain"),
        ('{"a": [1, 2]}', "json"),
        (" [1,\n 2] ", "json"),
        ("{a: 1}", "plain"),
        ('"just a string"', "plain"),
        ("[" * 100_000 + "]" * 100_000, "plain"),
        ("- one\n- two\n- three", "list"),
        ("- one\n- two", "plain"),
        ("1. one\n\n2. two\n\n3) three", "list"),
        ("• one\n• two\n• three\nand\nso\non it goes", "list"),
        ("• one\n• two\n• three\nand\nso\non it goes\nand\ngoes", "plain"),
        ("def f(x):\n    y = x + 1\n    return y", "code"),
        ("int main() {\n  int a = 3;\n  return a;\n}", "code"),
        ("Use it so:\n```\nf(1)\n```\nand be happy.", "code"),
        ("Use it so:\n```\nf(1)", "plain"),
    ],
)
def test_the_form_of_a_text(text: str, form: str) -> None:
    assert forms_of(pa.array([text], pa.large_string())) == {form: 1}


def test_words_by_hand() -> None:
    found = diversity_of(["a b a b", "a c", "", "😀"])
    assert found.words == 6
    assert found.type_token_ratio == pytest.approx((2 / 4 + 2 / 2) / 2)
    assert found.distinct_1 == pytest.approx(3 / 6)
    assert found.distinct_2 == pytest.approx(3 / 4)
    assert found.mtld is None


def test_what_no_words_cannot_tell_is_absent() -> None:
    found = diversity_of(["", "😀"])
    assert (found.words, found.type_token_ratio, found.distinct_1, found.distinct_2, found.mtld) == (0, *[None] * 4)


def test_mtld_by_hand() -> None:
    # Every second word ends a factor: 1 of 2 words is different.
    assert mtld_of([1] * 100) == pytest.approx(2)
    # Words 1 to 8 in turn: the ratio is 8/11 = 0.727 after eleven words and 8/12 = 0.667 after twelve.
    assert mtld_of([n % 8 for n in range(120)]) == pytest.approx(12)
    assert mtld_of(list(range(100))) is None
    assert mtld_of([1] * 99) is None


@given(st.lists(st.sampled_from(["", "😀", "a b", "a b c d e f g h i j k l", "a b c d e f g h i j k x"]), max_size=12))
@settings(max_examples=40, deadline=None)
def test_repetition_is_what_fuzzy_deduplication_takes_away(texts: list[str]) -> None:
    from anneal.curation.domain.steps.fuzzy_duplicates import FuzzyDuplicates

    rows = [asked("", text, f"{n}.html") for n, text in enumerate(texts)]
    removed = sum(removal is not None for removal in compared(FuzzyDuplicates(part="answer"), *rows)) if rows else 0
    assert count_repetitions(texts) == removed


def test_copies_are_counted_over_all_batches() -> None:
    rows = [asked("Q", "a b"), asked("q", "A  b"), asked("q", "b")]
    assert look_over([batch_of(rows[:1]), batch_of(rows[1:]), batch_of(rows[:1])]).copies == 2


GROUPS = {
    "kitchen": "onion garlic butter pepper saucepan oven recipe flour dough simmer",
    "harbour": "anchor mast rudder tide sailboat wind deck rope compass keel",
}


def texts_of(count: int) -> list[str]:
    chance = random.Random(3)
    return [
        f"the {name} " + " ".join(chance.choices(words.split(), k=6))
        for name, words in GROUPS.items()
        for _ in range(count)
    ]


def test_topics_are_told_apart_by_their_words() -> None:
    texts = texts_of(40)
    topics = find_topics(texts, HashingEncoder(1024).encode(texts), 2)
    assert [len(topic.rows) for topic in topics.topics] == [40, 40]
    assert set(topics.topic_of[:40].tolist()) == {int(topics.topic_of[0])}
    for topic in topics.topics:
        name = next(name for name in GROUPS if name in topic.words)
        assert set(topic.words) <= {name, *GROUPS[name].split()}
        assert set(topic.middle).isdisjoint(topic.edge)
        assert min(topics.similarities[list(topic.middle)]) >= max(topics.similarities[list(topic.edge)])


@pytest.mark.parametrize(
    "texts", [[], [""], ["one"], ["one", ""], ["same"] * 30, ["😀", "🎉 🎉"], ["a b c", "d e f", ""]]
)
def test_topics_of_little(texts: list[str]) -> None:
    vectors = HashingEncoder(64).encode(texts)
    topics = find_topics(texts, vectors)
    assert ((topics.topic_of >= 0) == vectors.any(axis=1)).all()
    assert sum(len(topic.rows) for topic in topics.topics) == int(vectors.any(axis=1).sum())
    places = map_of(topics.reduced)
    assert places.shape == (len(texts), 2)
    assert ((places >= 0) & (places <= 1)).all()


def test_dense_vectors_are_clustered_too() -> None:
    chance = np.random.default_rng(0)
    vectors = np.repeat(np.eye(16)[:3], 20, axis=0) + chance.normal(0, 0.05, (60, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    topics = find_topics(["word"] * 60, vectors.astype(np.float32), 3)
    assert [len(topic.rows) for topic in topics.topics] == [20, 20, 20]


def test_the_map_puts_what_is_alike_together() -> None:
    texts = texts_of(30)
    topics = find_topics(texts, HashingEncoder(1024).encode(texts), 2)
    places = map_of(topics.reduced)
    assert np.array_equal(places, map_of(topics.reduced))
    middles = [places[:30].mean(axis=0), places[30:].mean(axis=0)]
    nearer = [int(np.argmin([np.linalg.norm(spot - middle) for middle in middles])) for spot in places]
    assert nearer == [0] * 30 + [1] * 30


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The weather was fine and the children went to the beach with their parents.", "en"),
        ("Das Wetter war schön und die Kinder gingen mit ihren Eltern an den Strand.", "de"),
        ("12 34 56 78", "und"),
        ("Nineteen letters ab", "und"),
        ("", "und"),
    ],
)
def test_the_language_of_a_text(text: str, code: str) -> None:
    assert count_languages([text]) == {code: 1}


def test_an_excerpt_is_one_line() -> None:
    assert excerpt_of("  a\n\tb ") == "a b"
    assert excerpt_of("x" * 160) == "x" * 160
    assert excerpt_of("x" * 161) == "x" * 159 + "…"
