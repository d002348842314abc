"""Samples, mixtures and grouped splits."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anneal.curation.domain.pieces import Piece
from anneal.curation.domain.steps.base import WrongSetting
from anneal.curation.domain.steps.fuzzy_duplicates import FuzzyDuplicates
from anneal.curation.domain.steps.grouped_split import GroupedSplit
from anneal.curation.domain.steps.length import Length
from anneal.curation.domain.steps.mix import Mix
from anneal.curation.domain.steps.sample import Sample
from anneal.curation.domain.steps.split import Split
from anneal.kit.records import conversation
from tests.unit.curation.rows import InMemory, Row, asked, run, run_on

WORDS = [f"w{n}" for n in range(200)]


def numbered(count: int, source: str = "a") -> list[Row]:
    return [asked("q", f"{source} {n}", source) for n in range(count)]


def kept(memory: InMemory, split: str = "train") -> set[str]:
    return {row["id"] for name, row in memory.kept if name == split}


# -- sample --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allocation", ["proportional", "equal"])
def test_samples_of_one_seed_are_nested(allocation: Any) -> None:
    rows = [*numbered(70, "a"), *numbered(25, "b"), *numbered(5, "c")]
    chosen: set[str] = set()
    for size in range(1, 101):
        memory, outcome = run(rows, Sample(rows=size, by="source", allocation=allocation))
        assert len(memory.kept) == size
        assert chosen < kept(memory)
        chosen = kept(memory)
        assert outcome.removed == ({("Sample", "not_sampled"): 100 - size} if size < 100 else {})


@pytest.mark.parametrize(
    ("allocation", "rows", "shares"),
    [
        ("proportional", 20, {"a": 14, "b": 5, "c": 1}),
        ("equal", 12, {"a": 4, "b": 4, "c": 4}),
        ("equal", 20, {"a": 8, "b": 7, "c": 5}),
    ],
)
def test_strata_get_their_shares(allocation: Any, rows: int, shares: dict[str, int]) -> None:
    all_rows = [*numbered(70, "a"), *numbered(25, "b"), *numbered(5, "c")]
    memory, _ = run(all_rows, Sample(rows=rows, by="source", allocation=allocation))
    found = Counter(row["source"] for _, row in memory.kept)
    assert all(abs(found[name] - share) <= 1 for name, share in shares.items())
    assert found.total() == rows


def test_strata_by_a_key_of_meta() -> None:
    def row(n: int, kind: str | None) -> Row:
        turns = [{"role": "user", "content": str(n)}, {"role": "assistant", "content": "a"}]
        return conversation(turns, source="s", meta={"kind": kind} if kind else {})

    rows = [*(row(n, "x") for n in range(50)), *(row(n, "y") for n in range(50, 60)), *(row(n, None) for n in (60, 61))]
    memory, _ = run(rows, Sample(rows=6, by="meta.kind", allocation="equal"))
    assert Counter(row["meta"] for _, row in memory.kept) == {'{"kind": "x"}': 2, '{"kind": "y"}': 2, "{}": 2}


def test_only_training_rows_are_sampled_and_the_order_of_rows_does_not_matter() -> None:
    rows = [("train", row) for row in numbered(50)] + [("test", row) for row in numbered(20, "t")]
    memory, _ = run(rows, Sample(share=0.3))
    assert len(kept(memory)) == 15
    assert len(kept(memory, "test")) == 20
    shuffled = list(rows)
    random.Random(1).shuffle(shuffled)
    assert kept(run(shuffled, Sample(share=0.3), piece_rows=7)[0]) == kept(memory)
    assert kept(run(rows, Sample(share=0.3, seed="other"))[0]) != kept(memory)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        *(({}, "rows"), ({"rows": 1, "share": 0.5}, "rows"), ({"rows": 0}, "rows"), ({"share": 0.0}, "share")),
        *(({"share": 1.01}, "share"), ({"rows": 1, "by": "colour"}, "by"), ({"rows": 1, "by": "meta."}, "by")),
    ],
)
def test_impossible_samples(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(WrongSetting) as caught:
        Sample(**wrong)
    assert caught.value.field == field


# -- mix -----------------------------------------------------------------------------------------------------------


class TwoSources(InMemory):
    """Rows of the split `train` of two datasets: the second begins with the source `b`."""

    @property
    def pieces(self) -> list[Piece]:
        made = super().pieces
        return [replace(piece, origin=int(self.load(piece).column("source")[0].as_py() == "b")) for piece in made]


def mixed(step: Mix, first: int, second: int, *more: Any) -> tuple[Counter[str], Any]:
    rows = [("train", row) for row in [*numbered(first, "a"), *numbered(second, "b")]]
    memory = TwoSources([*rows, *[("test", row) for row in numbered(3, "t")]], piece_rows=1)
    _, outcome = run_on(memory, step, *more)
    assert outcome.rows_in == len(memory.kept) + len(memory.removed)
    return Counter(row["source"] for name, row in memory.kept if name == "train"), outcome


def test_weights_decide_how_often_rows_are_there() -> None:
    found, outcome = mixed(Mix(weights=(1, 3), rows=40), 20, 10)
    assert found == {"a": 10, "b": 30}
    (account,) = outcome.accounts
    assert [one["rows_out"] for one in account["sources"]] == [10, 30]
    assert [one["rows_left_out"] for one in account["sources"]] == [10, 0]
    assert [one["max_copies"] for one in account["sources"]] == [1, 3]
    assert outcome.removed == {("Mix", "not_mixed_in"): 10}


def test_a_source_gives_no_more_than_its_copies_allow() -> None:
    found, outcome = mixed(Mix(weights=(1, 9), rows=100, max_copies=2), 20, 10)
    assert found == {"a": 10, "b": 20}
    assert outcome.accounts[0]["sources"][1]["rows_asked"] == 90


def test_a_weight_of_zero_leaves_a_source_out() -> None:
    assert mixed(Mix(weights=(1, 0)), 20, 10)[0] == {"a": 30}


def test_what_leaves_after_a_mixture_leaves_as_often_as_it_is_there() -> None:
    found, outcome = mixed(Mix(weights=(0, 1), rows=22), 5, 11, Length(min_answer_characters=4))
    assert outcome.removed == {("Mix", "not_mixed_in"): 5, ("Length", "answer_too_short"): 2 * 10 + 3}
    assert found == {"b": 2}


@given(st.lists(st.floats(0, 10), min_size=1, max_size=6), st.integers(1, 1000))
def test_shares_add_up(weights: list[float], rows: int) -> None:
    if sum(weights) > 0:
        shares = Mix(weights=tuple(weights))._shares(rows)
        assert sum(shares) == rows
        assert all(
            abs(share - weight / sum(weights) * rows) <= 1 for share, weight in zip(shares, weights, strict=True)
        )


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        *(({"weights": ()}, "weights"), ({"weights": (0.0,)}, "weights"), ({"weights": (1.0, -1.0)}, "weights[1]")),
        *(({"weights": (1.0,), "rows": 0}, "rows"), ({"weights": (1.0,), "max_copies": 0}, "max_copies")),
    ],
)
def test_impossible_mixtures(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(WrongSetting) as caught:
        Mix(**wrong)
    assert caught.value.field == field


# -- grouped split -------------------------------------------------------------------------------------------------


def test_sources_and_near_duplicates_stay_on_one_side() -> None:
    chance = random.Random(4)
    rows = []
    for n in range(300):
        text = " ".join(chance.choices(WORDS, k=40))
        rows += [asked("q", text, f"s{n}"), asked("q", "unlike " + " ".join(chance.choices(WORDS, k=40)), f"s{n}")]
        if n % 3 == 0:
            rows.append(asked("q", text + " more", f"copy-{n}"))
    step = GroupedSplit(part="answer", test=0.3, validation=0.2)
    memory, outcome = run(rows, step)
    split_of = {row["source"]: split for split, row in memory.kept}
    assert all(split_of[row["source"]] == split for split, row in memory.kept)
    assert all(split_of[f"s{n}"] == split_of[f"copy-{n}"] for n in range(0, 300, 3))
    assert all(abs(outcome.kept[split] / len(rows) - share) < 0.1 for split, share in (("test", 0.3), ("train", 0.5)))
    # By sources alone some copies would be on the other side.
    alone = Split(test=0.3, validation=0.2)
    assert any(alone.of(f"s{n}") != alone.of(f"copy-{n}") for n in range(0, 300, 3))
    # So no training row is a near-duplicate of one held out.
    after, _ = run([row for _, row in memory.kept], FuzzyDuplicates(part="answer"))
    assert all(verdict.removal.duplicate_of is not None for _, verdict in after.removed)


@settings(max_examples=20)
@given(st.randoms())
def test_where_groups_go_does_not_depend_on_the_order(chance: random.Random) -> None:
    texts = [" ".join(random.Random(n // 2).choices(WORDS, k=30)) + f" {n % 2}" for n in range(40)]
    rows = [asked("q", text, f"s{n}") for n, text in enumerate(texts)]
    first = {row["id"]: split for split, row in run(rows, GroupedSplit(part="answer"))[0].kept}
    chance.shuffle(rows)
    assert {row["id"]: split for split, row in run(rows, GroupedSplit(part="answer"), piece_rows=3)[0].kept} == first
