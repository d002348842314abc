"""Where files end: bounded, and where rows come or go, the same elsewhere; and what stands in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from anneal.curation.domain.looks import Rewriting
from anneal.curation.domain.output import File, Segment, assemble, cut
from anneal.curation.domain.pieces import Change, Shared
from anneal.curation.domain.scoring import Scoring
from tests.unit.curation.rows import InMemory, asked


def files(sizes: NDArray[np.int64], marks: NDArray[np.uint64], rows: int, size: int = 1 << 40) -> list[tuple[int, int]]:
    return list(cut(sizes, marks, rows, size))


@given(st.lists(st.integers(0, 60), max_size=200), st.integers(1, 50), st.integers(1, 300), st.integers(0, 1 << 32))
def test_every_row_is_in_one_file_that_is_full_at_most(sizes: list[int], rows: int, size: int, seed: int) -> None:
    marks = np.random.default_rng(seed).integers(0, 1 << 32, len(sizes), dtype=np.uint64)
    found = files(np.array(sizes, dtype=np.int64), marks, rows, size)
    assert [n for start, stop in found for n in range(start, stop)] == list(range(len(sizes)))
    for start, stop in found:
        assert 0 < stop - start <= rows
        # It would have ended before its last row, had it been full without that.
        assert sum(sizes[start : stop - 1]) < size


def test_few_rows_are_one_file() -> None:
    marks = np.ones(100, dtype=np.uint64)
    assert files(np.ones(100, dtype=np.int64), marks, 50_000) == [(0, 100)]
    assert files(np.ones(0, dtype=np.int64), marks[:0], 50_000) == []


def test_a_file_ends_with_a_mark_but_not_at_once() -> None:
    marks = np.ones(1000, dtype=np.uint64)
    marks[[3, 20, 400]] = 0
    # 320 rows: a mark counts from the tenth on.
    assert files(np.ones(1000, dtype=np.int64), marks, 320) == [(0, 21), (21, 341), (341, 401), (401, 721), (721, 1000)]


def test_what_changes_in_one_place_changes_few_files() -> None:
    rng = np.random.default_rng(1)
    count, rows = 200_000, 5_000
    marks = rng.integers(0, 1 << 32, count, dtype=np.uint64)
    sizes = np.ones(count, dtype=np.int64)
    before = {tuple(marks[start:stop].tolist()) for start, stop in files(sizes, marks, rows)}
    assert 60 < len(before) < 400
    for place in rng.integers(0, count, 20).tolist():
        fewer = np.delete(marks, place)
        after = {tuple(fewer[start:stop].tolist()) for start, stop in files(sizes[1:], fewer, rows)}
        assert len(after - before) <= 4


@dataclass(frozen=True, slots=True)
class Marking:
    """Lets the source of a row say that it was changed."""

    mark: str

    def rewrite(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = batch.to_pylist()
        for row in rows:
            row["source"] += self.mark
        return pa.RecordBatch.from_pylist(rows, schema=batch.schema)


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3)), min_size=1, max_size=20), st.sets(st.integers(0, 7)))
def test_a_row_is_as_it_was_when_it_was_last_seen(wanted: list[tuple[int, int]], scored: set[int]) -> None:
    depth_of = dict(wanted)
    places = sorted(place for place, _ in wanted)
    rows = InMemory([("train", asked("q", str(n), source=f"{n}")) for n in range(8)])
    of = np.array(sorted(scored), dtype=np.int64)
    part = pa.RecordBatch.from_pydict(
        {"value:length": pa.array(of.astype(float)), "cause": pa.nulls(len(of), pa.string())}
    )
    changes = (Change(look="a"), Change(Scoring("length", of, part)), Change(look="b"))
    shared = Shared(rows, {mark: Rewriting(Marking(mark)) for mark in "ab"})
    depths = np.array([depth_of[place] for place in places], dtype=np.int16)
    (piece,) = rows.pieces
    segment = Segment(piece, changes, np.array(places), depths)
    table = assemble(shared, File("key", "rows", "train", len(places), [segment]))
    for row, place in zip(table.to_pylist(), places, strict=True):
        depth = depth_of[place]
        assert row["source"] == f"{place}{'a' * (depth > 0)}{'b' * (depth > 2)}"
        assert dict(row["scores"] or {}) == ({"length": float(place)} if depth > 1 and place in scored else {})
