"""Further ways to find benchmark items in rows, on both sides of their thresholds."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.curation.domain.errors import IndexIncomplete
from anneal.curation.domain.hashing_encoder import HashingEncoder
from anneal.curation.domain.steps.base import WrongSetting
from anneal.curation.domain.steps.decontaminate import Decontaminate, Decontamination
from anneal.kit.records import conversation
from tests.unit.curation.rows import asked, batch_of, judged, run

WORDS = [f"w{n}" for n in range(40)]
ITEM = asked(" ".join(WORDS[:30]), "", "exam.html")


def against(*items: dict[str, Any], **settings: Any) -> Decontamination:
    step = Decontaminate(benchmarks=("b",), **settings)
    index = step.index(HashingEncoder(256))
    index.add("b", [batch_of(items[:1]), batch_of(items[1:])], step.methods)
    return Decontamination(step=step, index=index)


def told(step: Decontamination, text: str, source: str = "a.html") -> tuple[str, Any]:
    (removal,) = judged(step, asked("", text, source))
    return (removal.reason, removal.numbers) if removal else ("", {})


@pytest.mark.parametrize(("held", "reason"), [(17, "ngram_overlap"), (16, "ngram_overlap"), (15, "")])
def test_a_share_of_an_items_n_grams(held: int, reason: str) -> None:
    # 30 words have 23 8-grams, of which 0.7 is 16.1; `held` of them are in the row.
    step = against(ITEM, methods=("ngram",), ngram=8, min_ngram_share=16 / 23)
    found, numbers = told(step, "before " + " ".join(WORDS[: held + 7]) + " after")
    assert found == reason
    if reason:
        assert numbers == {"benchmark": "b", "share": round(held / 23, 6), "shared": held}


@pytest.mark.parametrize(("words", "reason"), [(25, "fuzzy_overlap"), (24, "")])
def test_most_of_an_item_in_pieces(words: int, reason: str) -> None:
    # 27 4-grams; 22 of them are 0.81, 21 are 0.78.
    step = against(ITEM, methods=("fuzzy",), fuzzy_threshold=0.8)
    assert told(step, "x y z " + " ".join(WORDS[:words]) + " much more that is about something else")[0] == reason


def test_the_order_of_an_items_parts_does_not_matter_to_fuzzy() -> None:
    step = against(ITEM, methods=("ngram", "fuzzy"), ngram=25, fuzzy_threshold=0.8)
    assert told(step, " ".join([*WORDS[15:30], "and", *WORDS[:15]]))[0] == "fuzzy_overlap"


def test_the_item_held_most_of_is_named() -> None:
    other = asked(" ".join(WORDS[10:40]), "", "exam.html")
    step = against(other, ITEM, methods=("fuzzy",), fuzzy_threshold=0.5)
    (removal,) = judged(step, asked("", " ".join(WORDS[:31])))
    assert removal is not None
    assert removal.duplicate_of == ITEM["id"]


@pytest.mark.parametrize(("threshold", "reason"), [(0.8, "semantic_match"), (0.999, "")])
def test_vectors_that_point_the_same_way(threshold: float, reason: str) -> None:
    item = asked("What is the capital of France?", "Paris is the capital of France.")
    step = against(item, methods=("semantic",), semantic_threshold=threshold)
    near = asked("what is the capital of France", "The capital of France is Paris.")
    (removal,) = judged(step, near)
    assert (removal.reason if removal else "") == reason
    assert judged(step, asked("How do I sort a list?", "Call sorted on it.")) == [None]


def test_rows_of_an_items_source() -> None:
    parent = "f" * 64
    item = conversation([{"role": "user", "content": "q"}], source="exam.html", parents=[parent])
    step = against(item, methods=("source",))
    made = conversation([{"role": "user", "content": "p"}], source="other.html", parents=["e" * 64, parent])
    rows = [asked("x", "y", "exam.html"), made, asked("x", "y", "exam.htm"), asked("x", "y", "")]
    assert [removal.reason if removal else "" for removal in judged(step, *rows)] == ["same_source"] * 2 + [""] * 2


@pytest.mark.parametrize(
    ("item", "method"),
    [
        (asked("😀", ""), "fuzzy"),
        (asked("", ""), "semantic"),
        (asked("q", "a", ""), "source"),
        (asked("?", ""), "ngram"),
    ],
)
def test_an_item_that_cannot_be_found_is_refused(item: dict[str, Any], method: Any) -> None:
    with pytest.raises(IndexIncomplete) as raised:
        against(ITEM, item, methods=(method,))
    assert raised.value.facts["item"] == item["id"]


def test_what_all_items_share_is_no_item() -> None:
    wording = " ".join(WORDS[:20])
    items = [asked(f"{wording} about {n} {n + 1} {n + 2} {n + 3}", "", "s") for n in range(0, 120, 4)]
    step = against(*items, methods=("fuzzy",), fuzzy_threshold=0.8)
    assert told(step, wording + " about nothing")[0] == ""
    assert told(step, "so: w18 w19 about 8 9 10 11")[0] == "fuzzy_overlap"
    with pytest.raises(IndexIncomplete, match="cannot be found"):
        against(*[asked(wording, str(n), "s") for n in range(12)], methods=("fuzzy",), item_part="prompt")


@given(st.integers(8, 60), st.randoms())
def test_an_item_inside_a_long_row_is_found(length: int, chance: random.Random) -> None:
    item = asked(" ".join(chance.choices(WORDS, k=length)), "", "s")
    around = [f"o{chance.randrange(10_000)}" for _ in range(400)]
    row = asked("tell me", " ".join([*around[:200], item["messages"][0]["content"], *around[200:]]))
    for settings in ({"methods": ("fuzzy",)}, {"methods": ("ngram",), "ngram": 8, "min_ngram_share": 0.7}):
        (removal,) = judged(against(item, **settings), row)
        assert removal is not None


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=30))
def test_nothing_of_a_test_split_is_ever_removed(words: list[str]) -> None:
    row = asked("q", " ".join(words), "exam.html")
    methods = ("exact", "ngram", "fuzzy", "semantic", "source")
    step = against(ITEM, row, methods=methods, ngram=3, fuzzy_threshold=0.01, semantic_threshold=0.01)
    memory, _ = run([("test", row), ("train", row)], step)
    assert [split for split, _ in memory.kept] == ["test"]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"min_ngram_share": 1.1}, "min_ngram_share"),
        ({"fuzzy_ngram": 0}, "fuzzy_ngram"),
        ({"fuzzy_threshold": 0.0}, "fuzzy_threshold"),
        ({"semantic_threshold": 1.01}, "semantic_threshold"),
        ({"benchmarks": ("*", "projects/p/benchmarks/b")}, "benchmarks"),
    ],
)
def test_impossible_settings(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(WrongSetting) as raised:
        Decontaminate(**{"benchmarks": ("b",), **wrong})
    assert raised.value.field == field
