from __future__ import annotations

from collections import Counter
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.curation.domain.contamination import Cover
from anneal.curation.domain.errors import IndexIncomplete
from anneal.curation.domain.matchers import MIN_COMMON_ITEMS
from anneal.curation.domain.steps.base import WrongSetting
from anneal.curation.domain.steps.decontaminate import Decontaminate, Decontamination
from anneal.curation.domain.steps.exact_duplicates import ExactDuplicates
from anneal.curation.domain.steps.length import Length
from anneal.curation.domain.steps.split import Split
from tests.unit.curation.rows import asked, batch_of, run, said

WORDS = [f"w{n}" for n in range(40)]
LONG = " ".join(WORDS)


def against(*items: dict[str, Any], **settings: Any) -> Decontamination:
    step = Decontaminate(benchmarks=("b",), **settings)
    index = step.index()
    # In two batches, as a long benchmark comes.
    index.add("b", [batch_of(items[:1]), batch_of(items[1:])], step.methods)
    return Decontamination(step=step, index=index)


def reasons(step: Decontamination, *rows: dict[str, Any], split: str = "train") -> dict[str, str]:
    memory, _ = run([(split, row) for row in rows], step)
    return {row["id"]: verdict.removal.reason for row, verdict in memory.removed}


def test_the_rule_of_the_split_by_hand() -> None:
    source = "library/shutil.html"
    u = int(sha256(f"anneal-split:{source}".encode()).hexdigest()[:8], 16) / 2**32
    assert Split(test=u + 1e-9, validation=0).of(source) == "test"
    assert Split(test=u, validation=1e-9).of(source) == "validation"
    assert Split(test=0, validation=u).of(source) == "train"


def test_a_source_stays_together_and_shares_come_out() -> None:
    memory, outcome = run([asked(f"q{n}", "a", f"page-{n % 1000}") for n in range(3000)], Split())
    by_source: dict[str, set[str]] = {}
    for split, row in memory.kept:
        by_source.setdefault(row["source"], set()).add(split)
    assert all(len(splits) == 1 for splits in by_source.values())
    shares = {split: count / 3000 for split, count in outcome.kept.items()}
    assert shares == pytest.approx({"train": 0.75, "validation": 0.10, "test": 0.15}, abs=0.03)


@pytest.mark.parametrize(
    ("wrong", "field"), [({"test": 1.0}, "test"), ({"validation": -0.1}, "validation"), ({"test": 0.9}, "validation")]
)
def test_impossible_shares(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(WrongSetting) as raised:
        Split(**wrong)
    assert raised.value.field == field


def test_steps_around_a_split_know_it() -> None:
    rows = [asked(f"q{n}", "x" * (n % 3), f"page-{n}") for n in range(300)]
    steps = Length(min_answer_characters=1), Split(), ExactDuplicates(part="prompt"), Length(min_answer_characters=2)
    memory, outcome = run([*rows, *rows], *steps)
    assert all(split == Split().of(row["source"]) for split, row in memory.kept)
    assert outcome.removed == Counter(
        {("Length", "answer_too_short"): 300, ("ExactDuplicates", "exact_duplicate"): 200}
    )


def test_equal_prompts_leave_training_only() -> None:
    step = against(asked("What  IS it?", "a"), asked("other words", "b"))
    row = asked("what is it?", "z")
    assert reasons(step, row, asked("what was it?", "z")) == {row["id"]: "exact_match"}
    assert reasons(step, row, split="validation") == {row["id"]: "exact_match"}
    assert reasons(step, row, split="test") == {}


@pytest.mark.parametrize(("shared", "removed"), [(13, True), (12, False)])
def test_thirteen_words_in_a_row_are_enough(shared: int, removed: bool) -> None:
    row = asked("q", f"other {' '.join(WORDS[5 : 5 + shared])} end")
    found = reasons(against(asked("question", LONG)), row)
    assert found == ({row["id"]: "ngram_overlap"} if removed else {})


def test_question_and_answer_are_one_text() -> None:
    item = asked(" ".join(WORDS[:8]), " ".join(WORDS[8:16]))
    row = asked("x", " ".join(WORDS[2:15]))
    assert reasons(against(item), row) == {row["id"]: "ngram_overlap"}
    memory, _ = run([row], against(item))
    assert memory.removed[0][1].removal.duplicate_of == item["id"]
    assert memory.removed[0][1].removal.numbers == {"benchmark": "b", "ngram": 13, "shared": 1}


def test_a_short_item_is_all_its_words() -> None:
    step = against(asked("two plus two", "four"), methods=("ngram",))
    same, more = asked("Two plus", "two: four!"), asked("two plus two", "four five")
    assert reasons(step, same, more) == {same["id"]: "ngram_overlap"}


def test_what_many_items_hold_is_the_benchmarks_wording() -> None:
    items = [asked(f"{LONG} item{n}", f"answer{n}") for n in range(100)]
    row = asked("x", LONG)
    assert reasons(against(*items), row) == {}
    assert reasons(against(*items, max_item_share=1.0), row) == {row["id"]: "ngram_overlap"}
    # One item's own words always count, and equal prompts are found however common their words are.
    assert reasons(against(*items[:1]), row) == {row["id"]: "ngram_overlap"}
    assert reasons(against(*items), asked(f"{LONG} ITEM7", "z")).popitem()[1] == "exact_match"


def test_the_share_itself_counts() -> None:
    items = [asked(f"{LONG} item {n}" if n < 15 else f"item {n}", "x") for n in range(300)]
    row = asked("y", LONG)
    assert reasons(against(*items, methods=("ngram",)), row) == {row["id"]: "ngram_overlap"}
    assert reasons(against(*items, methods=("ngram",), max_item_share=0.0499), row) == {}


def test_two_questions_over_one_passage_do_not_make_the_passage_wording() -> None:
    items = [asked(f"{LONG} question {n}", "x") if n < 2 else asked(f"item {n}", "x") for n in range(20)]
    row = asked("y", LONG)
    assert reasons(against(*items), row) == {row["id"]: "ngram_overlap"}


@pytest.mark.parametrize(("holders", "removed"), [(MIN_COMMON_ITEMS, True), (MIN_COMMON_ITEMS + 1, False)])
def test_a_small_benchmark_has_no_wording_below_the_floor(holders: int, removed: bool) -> None:
    items = [asked(f"{LONG} question {n}" if n < holders else f"item {n}", "x") for n in range(40)]
    row = asked("y", LONG)
    assert reasons(against(*items, methods=("ngram",)), row) == ({row["id"]: "ngram_overlap"} if removed else {})


def test_items_that_only_ngrams_could_find_are_refused_when_all_of_theirs_are_common() -> None:
    items = [asked(LONG, "x") for n in range(MIN_COMMON_ITEMS + 2)] + [asked(f"item {n}", "x") for n in range(8)]
    with pytest.raises(IndexIncomplete, match=r"12 of the 20 items of b .* `exact`") as refused:
        against(*items, methods=("ngram",))
    assert refused.value.facts == {"benchmark": "b", "item": items[0]["id"], "items": "12"}
    step = against(*items)
    assert step.index.covers["b"] == Cover(items=20, common_ngrams=29, prompt_only_items=12)
    row = asked(LONG, "anything else")
    assert reasons(step, row) == {row["id"]: "exact_match"}


def test_what_is_compared_by_prompt_alone_is_counted_so() -> None:
    step = against(asked("one", "1"), asked("two", "2"), methods=("exact",))
    assert step.index.covers["b"] == Cover(items=2, common_ngrams=0, prompt_only_items=2)


@pytest.mark.parametrize(
    ("item", "methods"),
    [
        (asked("😀", "🎉"), ("ngram",)),
        (asked("😀", "🎉"), ("exact", "ngram")),
        (asked(" ", "words here"), ("exact",)),
        (said(), ("ngram",)),
    ],
)
def test_an_item_that_cannot_be_indexed_is_refused(item: dict[str, Any], methods: tuple[Any, ...]) -> None:
    with pytest.raises(IndexIncomplete) as refused:
        against(asked("fine", "item"), item, methods=methods)
    assert refused.value.facts == {"benchmark": "b", "item": item["id"]}


def test_a_benchmark_without_items_is_refused() -> None:
    step = Decontaminate(benchmarks=("b",))
    with pytest.raises(IndexIncomplete):
        step.index().add("b", [], step.methods)


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["train", "validation", "test"]),
        st.builds(asked, st.sampled_from(WORDS[:4]), st.lists(st.sampled_from(WORDS[:3]), max_size=20).map(" ".join)),
    ),
    max_size=30,
)


@given(ROWS, st.lists(st.sampled_from(WORDS[:3]), min_size=1, max_size=20), st.integers(1, 7))
def test_no_test_row_ever_leaves(rows: list[tuple[str, Any]], words: list[str], piece_rows: int) -> None:
    item = asked(WORDS[0], " ".join(words))
    held_out = [row for split, row in rows if split == "test"]
    memory, outcome = run(rows, against(item, *held_out, ngram=3, max_item_share=1.0), piece_rows=piece_rows)
    assert outcome.kept["test"] == len(held_out)
    prompts = {item["messages"][0]["content"], *(row["messages"][0]["content"] for row in held_out)}
    for split, row in memory.kept:
        assert split == "test" or row["messages"][0]["content"] not in prompts


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"benchmarks": ()}, "benchmarks"),
        ({"benchmarks": ("a", "a")}, "benchmarks"),
        ({"methods": ()}, "methods"),
        ({"ngram": 2}, "ngram"),
        ({"max_item_share": 0.0}, "max_item_share"),
    ],
)
def test_impossible_settings(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(WrongSetting) as raised:
        Decontaminate(**{"benchmarks": ("b",), **wrong})
    assert raised.value.field == field
