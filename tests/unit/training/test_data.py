"""Samples, packing, masks and templates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.training.domain.checks import check_samples
from anneal.training.domain.errors import DatasetEmpty, MaskEmpty, SampleTooLong
from anneal.training.domain.objectives import OBJECTIVES
from anneal.training.domain.packing import IGNORED, collate, pack
from anneal.training.domain.prepare import choose_rows
from anneal.training.domain.samples import Sample, Samples, fit_to_context
from tests.fixtures.tiny_model import tokenizer


def sample(length: int, *, row_id: str = "r", targets: int = 1) -> Sample:
    return Sample(list(range(length)), [i >= length - targets for i in range(length)], row_id)


@given(st.lists(st.integers(1, 16), max_size=40))
def test_every_sample_lands_in_exactly_one_row_that_holds_it(lengths: list[int]) -> None:
    samples = [sample(length, row_id=str(i)) for i, length in enumerate(lengths)]
    rows = pack(samples, context_tokens=16)
    assert sorted(s.row_id for row in rows for s in row) == sorted(s.row_id for s in samples)
    assert all(sum(len(s) for s in row) <= 16 for row in rows)
    # best fit decreasing leaves at most one row under half full
    assert sum(sum(len(s) for s in row) < 8 for row in rows) <= 1


def test_unpacked_gives_each_sample_its_row() -> None:
    assert len(pack([sample(4), sample(4)], context_tokens=16, packed=False)) == 2


def test_a_row_is_laid_out_with_its_own_positions_and_the_shift_done_once() -> None:
    a = Sample([5, 6, 7], [False, False, True], "a")
    b = Sample([8, 9], [False, True], "b")
    batch = collate([[a, b], [b]], pad_id=0)
    assert batch.token_ids_RL.tolist() == [[5, 6, 7, 8, 9], [8, 9, 0, 0, 0]]
    assert batch.position_ids_RL.tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 1, 2]]
    assert batch.labels_RL.tolist() == [
        [IGNORED, 7, IGNORED, 9, IGNORED],
        [9, IGNORED, IGNORED, IGNORED, IGNORED],
    ]
    assert batch.num_targets == 3


def test_a_sample_of_exactly_the_context_stays() -> None:
    assert len(fit_to_context([sample(8)], context_tokens=8, overlong="refuse").kept) == 1


def test_a_longer_sample_is_refused_with_its_row() -> None:
    with pytest.raises(SampleTooLong) as caught:
        fit_to_context([sample(9, row_id="long")], context_tokens=8, overlong="refuse")
    assert "long" in caught.value.facts.values()


def test_a_longer_sample_is_dropped_or_loses_its_end() -> None:
    dropped = fit_to_context([sample(9), sample(3)], context_tokens=8, overlong="drop")
    assert (len(dropped.kept), dropped.counts["dropped_too_long"]) == (1, 1)
    cut = fit_to_context([sample(9, targets=8)], context_tokens=8, overlong="truncate")
    assert (len(cut.kept[0]), cut.kept[0].is_truncated, cut.counts["truncated"]) == (8, True, 1)
    nothing = fit_to_context([sample(9, targets=1)], context_tokens=8, overlong="truncate")
    assert (nothing.kept, nothing.counts["dropped_nothing_left"]) == ([], 1)


def test_nothing_to_learn_is_refused() -> None:
    with pytest.raises(DatasetEmpty):
        check_samples(Samples())
    with pytest.raises(MaskEmpty):
        check_samples(Samples([sample(4, targets=0)]))
    check_samples(Samples([sample(4)]))


def test_rows_are_chosen_by_their_id_and_keep_their_order() -> None:
    rows = [{"id": name} for name in "cabd"]
    assert [row["id"] for row in choose_rows(rows, 2)] == ["a", "b"]
    assert [row["id"] for row in choose_rows(list(reversed(rows)), 3)] == ["b", "a", "c"]
    assert choose_rows(rows, 0) is rows
    assert choose_rows(rows, 4) is rows


def test_raw_text_is_cut_into_pieces_that_predict_every_token_but_the_first() -> None:
    tok = tokenizer()
    text = "The function f1 returns the value of 1. " * 10
    pieces = list(OBJECTIVES["text"](tok, context_tokens=16).samples([{"id": "d", "text": text}]))
    ids = [i for piece in pieces for i in piece.token_ids]
    assert ids[-1] == tok.get_vocab()["<|endoftext|>"]
    assert tok.decode(ids[:-1]) == text
    assert all(piece.num_targets == len(piece) - 1 for piece in pieces)
