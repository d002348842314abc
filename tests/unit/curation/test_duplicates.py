from __future__ import annotations

import random
import re
import time
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anneal.curation.domain.candidates import NEIGHBOURS, Bands, candidate_pairs, ends_of
from anneal.curation.domain.steps.base import WrongSetting
from anneal.curation.domain.steps.exact_duplicates import ExactDuplicates
from anneal.curation.domain.steps.fuzzy_duplicates import FuzzyDuplicates
from tests.unit.curation.rows import asked, batch_of, run, said, signed

WORDS = [f"w{n}" for n in range(30)]
# Texts that are often equal or nearly so: a few bases, one of them with a word changed, cut or repeated.
BASES = [" ".join(random.Random(n).choices(WORDS, k=40)) for n in range(3)]


@st.composite
def texts(draw: st.DrawFn) -> str:
    words = draw(st.sampled_from(BASES)).split()
    for _ in range(draw(st.integers(0, 2))):
        words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(WORDS))
    words = words[: draw(st.sampled_from([0, 2, 4, 5, 30, 38, 40]))]
    return draw(st.sampled_from([" ", ", ", "  "])).join(words) + draw(st.sampled_from(["", "!", "😀"]))


ROWS = st.lists(st.builds(asked, st.sampled_from(["", "q"]), texts(), st.sampled_from(["a", "b"])), max_size=25)


def shingles(row: dict[str, Any], part: str) -> set[tuple[str, ...]]:
    contents = [turn["content"] for turn in row["messages"]]
    words = re.findall(r"\w+", contents[-1] if part == "answer" else "\n".join(contents))
    return {tuple(words[i : i + 5]) for i in range(max(len(words) - 4, 1))} if words else set()


def jaccard(left: set[Any], right: set[Any]) -> float:
    return len(left & right) / len(left | right) if left | right else 0.0


def test_equal_prompts_keep_the_smallest_id() -> None:
    rows = [asked("What?", "a"), asked(" what?\n", "b"), asked("WHAT?", "c"), asked("why?", "a")]
    memory, _ = run(rows, ExactDuplicates(part="prompt"))
    first = min(row["id"] for row in rows[:3])
    assert memory.kept_ids == sorted([first, rows[3]["id"]])
    assert {verdict.removal.duplicate_of for _, verdict in memory.removed} == {first}
    assert {verdict.removal.reason for _, verdict in memory.removed} == {"exact_duplicate"}
    assert memory.removed[0][1].removal.numbers == {"copies": 3}


@pytest.mark.parametrize(
    ("part", "normalize", "kept"),
    [("prompt", True, 2), ("answer", True, 2), ("conversation", True, 3), ("prompt", False, 3), ("answer", False, 3)],
)
def test_parts_and_normalisation(part: Any, normalize: bool, kept: int) -> None:
    rows = [asked("q", "a"), asked("Q ", "b"), asked("p", "B"), asked("Q ", "b", "other")]
    assert len(run(rows, ExactDuplicates(part=part, normalize=normalize))[0].kept) == kept


def test_roles_tell_conversations_apart() -> None:
    rows = [said(("user", "a"), ("assistant", "b")), said(("system", "a"), ("assistant", "b"))]
    assert len(run(rows, ExactDuplicates())[0].kept) == 2


def test_rows_without_a_prompt_are_not_all_the_same() -> None:
    rows = [asked("", "a"), asked(" ", "b"), asked("", "A")]
    assert len(run(rows, ExactDuplicates(part="prompt"))[0].kept) == 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=30))
def test_the_first_of_each_group_is_the_first_in_the_order_of_all(chosen: list[tuple[str, str]]) -> None:
    rows = [asked("q", answer, source=source) for answer, source in chosen]
    view = signed(ExactDuplicates(), batch_of(rows))
    groups = [answer == "a" for answer, _ in chosen]
    firsts = np.array([groups.index(group) for group in groups], dtype=np.int64)
    ranks = view.ranks().tolist()
    first = {group: min((ranks[at], at) for at in range(len(rows)) if groups[at] == group)[1] for group in groups}
    assert view.first_of_each(firsts).tolist() == [first[group] for group in groups]


def test_emoji_are_compared_exactly_and_not_fuzzily() -> None:
    rows = [said(("user", "😀")), said(("user", "😀")), said(("user", "🎉"))]
    assert len(run(rows, ExactDuplicates())[0].kept) == 2
    assert len(run(rows, FuzzyDuplicates())[0].kept) == 3


@given(ROWS, st.randoms(), st.sampled_from(["prompt", "answer", "conversation"]), st.integers(1, 9))
def test_order_changes_nothing(rows: list[Any], chance: random.Random, part: Any, piece_rows: int) -> None:
    shuffled = list(rows)
    chance.shuffle(shuffled)
    for step in (ExactDuplicates(part=part), FuzzyDuplicates(part=part)):
        first, _ = run(rows, step)
        second, _ = run(shuffled, step, piece_rows=piece_rows)
        assert first.kept_ids == second.kept_ids
        assert sorted((row["id"], row["source"]) for _, row in first.kept) == sorted(
            (row["id"], row["source"]) for _, row in second.kept
        )


@given(ROWS, st.data())
def test_a_duplicate_of_anything_is_removed(rows: list[Any], data: st.DataObject) -> None:
    if not rows:
        return
    copy = data.draw(st.sampled_from(rows))
    assert run([*rows, copy], ExactDuplicates())[0].kept_ids == run(rows, ExactDuplicates())[0].kept_ids
    if shingles(copy, "conversation"):
        assert run([*rows, copy], FuzzyDuplicates())[0].kept_ids == run(rows, FuzzyDuplicates())[0].kept_ids


@settings(max_examples=60)
@given(ROWS, st.sampled_from([0.5, 0.8, 1.0]))
def test_what_leaves_is_truly_similar_and_nothing_similar_stays(rows: list[Any], threshold: float) -> None:
    memory, _ = run(rows, FuzzyDuplicates(part="answer", threshold=threshold))
    by_id = {row["id"]: row for row in rows}
    for row, verdict in memory.removed:
        other = by_id[verdict.removal.duplicate_of or ""]
        similarity = jaccard(shingles(row, "answer"), shingles(other, "answer"))
        assert similarity >= threshold
        assert verdict.removal.numbers["similarity"] == round(similarity, 6)
        kept = verdict.removal.numbers.get("kept", verdict.removal.duplicate_of)
        assert kept in memory.kept_ids
    for (_, left), (_, right) in combinations(memory.kept, 2):
        assert jaccard(shingles(left, "answer"), shingles(right, "answer")) < threshold


def test_the_threshold_itself_counts() -> None:
    # 45 words make 41 shingles; one more word makes 42: 41 / 42 = 0.97619...
    text = " ".join(f"x{n}" for n in range(45))
    rows = [asked("q", text), asked("q", f"{text} more")]
    exact = 41 / 42
    assert len(run(rows, FuzzyDuplicates(part="answer", threshold=exact))[0].kept) == 1
    assert len(run(rows, FuzzyDuplicates(part="answer", threshold=np.nextafter(exact, 1)))[0].kept) == 2


def test_the_longest_stays_and_a_chain_is_walked() -> None:
    words = [f"x{n}" for n in range(60)]
    rows = [asked("q", " ".join(words[: 60 - 6 * cut])) for cut in range(4)]
    memory, _ = run(rows, FuzzyDuplicates(part="answer"))
    assert memory.kept_ids == [rows[0]["id"]]
    named = {row["id"]: verdict.removal for row, verdict in memory.removed}
    # 56, 50, 44 and 38 shingles: the last is similar to its neighbours only.
    assert named[rows[1]["id"]].duplicate_of == rows[0]["id"]
    assert named[rows[3]["id"]].duplicate_of in {rows[1]["id"], rows[2]["id"]}
    assert named[rows[3]["id"]].numbers["kept"] == rows[0]["id"]


def test_short_texts_are_one_shingle() -> None:
    rows = [
        asked("q", "one two three"),
        asked("q", "One, two; three!"),
        asked("q", "one two"),
        asked("q", "one two four"),
    ]
    memory, _ = run(rows, FuzzyDuplicates(part="answer"))
    assert memory.kept_ids == sorted(row["id"] for row in rows[1:])


def test_one_word_repeated_is_one_shingle() -> None:
    rows = [asked("q", "buy " * 100_000), asked("q", "buy " * 99_999), asked("q", "buy one get one free " * 5_000)]
    memory, _ = run(rows, ExactDuplicates(), FuzzyDuplicates(part="answer"))
    assert memory.kept_ids == sorted([rows[0]["id"], rows[2]["id"]])


def test_a_band_of_many_rows_is_bounded_work() -> None:
    count = 5_000
    band = np.zeros(count, dtype=np.uint32), np.arange(count)
    found = candidate_pairs([band] * 3, np.random.default_rng(1).permutation(count).astype(np.uint64))
    assert len(found.codes) <= (NEIGHBOURS + 1) * count
    assert len(np.unique(ends_of(found.codes))) == count
    base = " ".join(f"x{n}" for n in range(100))
    rows = [asked("q", f"{base} y{n}") for n in range(count)]
    start = time.process_time()
    memory, _ = run(rows, FuzzyDuplicates(part="answer"), piece_rows=4096)
    assert len(memory.kept) == 1
    assert time.process_time() - start < 30


def test_bands_miss_next_to_nothing_at_the_threshold() -> None:
    for threshold in (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0):
        bands = Bands.for_threshold(threshold)
        assert (1 - min(threshold, 1) ** bands.rows) ** bands.count <= 1e-4
        assert bands.count * bands.rows <= 128
    assert Bands.for_threshold(0.8) == Bands(24, 5)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"threshold": 0.09}, "threshold"), ({"threshold": 1.01}, "threshold"), ({"ngram": 0}, "ngram")],
)
def test_impossible_settings(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(WrongSetting) as raised:
        FuzzyDuplicates(**wrong)
    assert raised.value.field == field


def test_which_of_near_duplicates_stays_is_a_rule() -> None:
    text = " ".join(random.Random(5).choices([f"v{n}" for n in range(500)], k=80))
    rows = [asked("q", f"{text} {'more ' * n}".strip()) for n in range(3)]
    rows[0]["scores"], rows[1]["scores"] = [("quality", 2.0)], [("quality", 3.0)]
    chosen = {
        "longest": FuzzyDuplicates(),
        "score": FuzzyDuplicates(keep="score", score="quality"),
        "first": FuzzyDuplicates(keep="first"),
    }
    kept = {name: run(rows, step)[0].kept_ids for name, step in chosen.items()}
    assert kept == {"longest": [rows[2]["id"]], "score": [rows[1]["id"]], "first": [rows[0]["id"]]}
    turned = {name: run(rows[::-1], step)[0].kept_ids for name, step in chosen.items()}
    assert turned == {**kept, "first": [rows[2]["id"]]}


@pytest.mark.parametrize("wrong", [{"keep": "score"}, {"score": "quality"}])
def test_a_score_is_for_keeping_by_it(wrong: dict[str, Any]) -> None:
    with pytest.raises(WrongSetting) as raised:
        FuzzyDuplicates(**wrong)
    assert raised.value.field == "score"
