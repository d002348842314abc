from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from google.protobuf import struct_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from anneal.curation import codec
from anneal.curation.domain import clustering
from anneal.curation.domain.cells import heads_of, repeats_in
from anneal.curation.domain.clustering import Vectors, cells_of, split_cells
from anneal.curation.domain.encoders import Endpoint
from anneal.curation.domain.errors import TooManyRows
from anneal.curation.domain.hashing_encoder import HashingEncoder
from anneal.curation.domain.steps.base import Removal, WrongSetting
from anneal.curation.domain.steps.semantic_duplicates import SemanticComparison, SemanticDuplicates
from anneal.curation.settings import CurationOptions, EncoderOptions
from anneal.kit.errors import Invalid
from anneal.v1 import curation_service_pb2 as pb
from tests.unit.curation.rows import Row, compared, said


class Angles:
    """Texts are angles in degrees on a circle, so that every cosine is known."""

    name = key = "angles"
    dimension = 16

    def encode(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        vectors = np.zeros((len(texts), 16), dtype=np.float32)
        for row, text in enumerate(texts):
            if text.strip():
                angle = np.radians(float(text))
                vectors[row, :2] = np.cos(angle), np.sin(angle)
        return vectors


def angle(degrees: str, source: str = "a") -> Row:
    return said(("user", degrees), source=source)


def judged(*rows: Row, **step: Any) -> list[Removal | None]:
    return compared(SemanticComparison(step=SemanticDuplicates(**step), encoder=Angles()), *rows)


def test_both_sides_of_the_threshold() -> None:
    # cos 25 degrees is 0.9063, cos 26 degrees 0.8988.
    near, far = judged(angle("0.0"), angle("25"), threshold=0.9), judged(angle("0.0"), angle("26"), threshold=0.9)
    assert near[0] is None
    assert near[1] == Removal("semantic_duplicate", {"similarity": 0.9063, "threshold": 0.9}, angle("0.0")["id"])
    assert far == [None, None]


def test_one_row_of_a_chain_stays_and_each_other_names_what_it_repeats() -> None:
    rows = [angle("0.0000"), angle("20"), angle("40")]
    first, second, third = judged(*rows, threshold=0.9)
    assert first is None
    assert second is not None
    assert (second.duplicate_of, "kept" in second.numbers) == (rows[0]["id"], False)
    assert third is not None
    assert (third.duplicate_of, third.numbers["kept"]) == (rows[1]["id"], rows[0]["id"])
    assert third.numbers["similarity"] == pytest.approx(np.cos(np.radians(20)), abs=1e-3)


def test_a_row_alike_only_to_later_rows_of_its_group_leaves_with_one_of_them() -> None:
    # The longest is at one end, the second longest at the other, and what connects them comes last.
    rows = [angle("0.0000"), angle("040.0"), angle("20")]
    removals = judged(*rows, threshold=0.9)
    assert [removal and removal.duplicate_of for removal in removals] == [None, rows[2]["id"], rows[0]["id"]]


def test_equal_texts_repeat_each_other_whatever_the_threshold() -> None:
    rows = [angle("7", "b"), angle("7", "a"), angle("7", "c")]
    removals = judged(*rows, threshold=1.0)
    assert [removal is None for removal in removals] == [False, True, False]
    assert [removal.numbers["similarity"] for removal in removals if removal] == [1.0, 1.0]


def test_a_copy_of_a_row_that_leaves_names_the_row_that_stays() -> None:
    rows = [angle("0.0000"), angle("20", "a"), angle("20", "b")]
    kept, near, copy = judged(*rows, threshold=0.9)
    assert kept is None
    assert near is not None
    assert copy is not None
    assert copy.numbers["kept"] == rows[0]["id"]


def test_rows_without_text_are_not_compared() -> None:
    assert judged(angle(""), angle(" "), said(), angle("5")) == [None] * 4
    assert compared(SemanticComparison(step=SemanticDuplicates(), encoder=Angles())) == []


@pytest.mark.parametrize(("keep", "stays"), [("longest", "0.00"), ("closest", "12"), ("farthest", "30")])
def test_which_row_of_a_group_stays(keep: str, stays: str) -> None:
    # The mean of the four lies at 13 degrees.
    rows = [angle("0.00"), angle("10"), angle("12"), angle("30")]
    removals = judged(*rows, threshold=0.9, keep=keep)
    assert [row["messages"][0]["content"] for row, gone in zip(rows, removals, strict=True) if not gone] == [stays]


ANGLES = st.lists(st.integers(0, 359), max_size=40)


@given(ANGLES, st.sampled_from(["longest", "closest", "farthest"]), st.randoms())
@settings(max_examples=60, deadline=None)
def test_the_order_of_rows_changes_nothing(angles: list[int], keep: Any, chance: random.Random) -> None:
    rows = [angle(str(one), f"s{n}") for n, one in enumerate(angles)]
    mixed = rows.copy()
    chance.shuffle(mixed)
    found = dict(zip([row["source"] for row in rows], judged(*rows, threshold=0.99, keep=keep), strict=True))
    again = dict(zip([row["source"] for row in mixed], judged(*mixed, threshold=0.99, keep=keep), strict=True))
    assert found == again


@given(ANGLES)
@settings(max_examples=100, deadline=None)
def test_one_cell_finds_what_comparing_all_pairs_finds(angles: list[int]) -> None:
    vectors = Angles().encode([str(one) for one in angles])
    threshold = float(np.cos(np.radians(5.5)))
    found = repeats_in(vectors, threshold)
    # Connected groups by hand: repeated relabelling until nothing changes.
    group = list(range(len(angles)))
    gaps = [[min(abs(a - b), 360 - abs(a - b)) for b in angles] for a in angles]
    while True:
        new = [min(group[j] for j in range(len(angles)) if gaps[i][j] <= 5) for i in range(len(angles))]
        if new == group:
            break
        group = new
    assert found.rows.tolist() == [row for row, first in enumerate(group) if first != row]
    assert found.first.tolist() == [group[row] for row in found.rows.tolist()]
    assert all(gaps[row][by] <= 5 for row, by in zip(found.rows.tolist(), found.by.tolist(), strict=True))
    assert (found.similarities >= threshold - 1e-6).all()


def test_blocks_of_a_cell_are_compared_with_each_other() -> None:
    degrees = np.radians(np.arange(2_000) * 0.18)
    vectors = np.stack([np.cos(degrees), np.sin(degrees)], axis=1).astype(np.float32)
    mixed = np.random.default_rng(0).permutation(2_000)
    found = repeats_in(vectors[mixed], float(np.cos(np.radians(0.2))))
    assert (len(found.rows), set(found.first.tolist())) == (1_999, {0})


def test_equal_vectors_have_one_head() -> None:
    stored = np.array([[1, 2, 3], [3, 2, 1], [1, 2, 3], [0, 0, 1]], dtype=np.float16)
    assert heads_of(stored, np.array([2, 1, 0, 3])).tolist() == [2, 1, 2, 3]


def blobs(rows: int, groups: int = 4) -> np.ndarray[Any, np.dtype[np.float32]]:
    chance = np.random.default_rng(1)
    centres = np.eye(16, dtype=np.float32)[:groups]
    made = np.repeat(centres, rows // groups, axis=0) + chance.normal(0, 0.02, (rows // groups * groups, 16))
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), dtype=np.float32)


@pytest.mark.parametrize("method", ["kmeans", "hdbscan", "agglomerative"])
def test_clusters_are_found_and_found_again(method: Any) -> None:
    vectors = Vectors(blobs(200), np.arange(200))
    cells = cells_of(vectors, method, 4)
    assert len({tuple(set(cells[first : first + 50].tolist())) for first in range(0, 200, 50)}) == 4
    assert (cells == cells_of(vectors, method, 4)).all()


@pytest.mark.parametrize("method", ["hdbscan", "agglomerative"])
def test_methods_that_compare_all_rows_refuse_too_many(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "MAX_QUADRATIC_ROWS", 100)
    assert len(cells_of(Vectors(blobs(100), np.arange(100)), method, 4)) == 100
    with pytest.raises(TooManyRows, match="at most 100 rows, here are 104: use kmeans"):
        cells_of(Vectors(blobs(104), np.arange(104)), method, 4)


@pytest.mark.parametrize("vectors", [blobs(400), np.repeat(np.eye(16, dtype=np.float32)[:1], 400, axis=0)])
def test_a_cell_above_the_limit_is_split(vectors: Any) -> None:
    parts = list(split_cells(Vectors(vectors, np.arange(400)), np.zeros(400, dtype=np.int64), 60))
    assert max(map(len, parts)) <= 60
    assert sorted(np.concatenate(parts).tolist()) == list(range(400))


def test_real_rows_with_the_default_encoder() -> None:
    rows = [said(("user", f"Question {n}: what does the function number {n * 7} return?")) for n in range(60)]
    rows.append(said(("user", "Please tell me how to reset the password of my account.")))
    rows.append(said(("user", "Please, tell me how to reset the password of my account!!")))
    step = SemanticDuplicates(threshold=0.9)
    removals = compared(SemanticComparison(step=step, encoder=HashingEncoder(512)), *rows)
    assert removals[-1] is None
    assert removals[-2] is not None
    assert removals[-2].duplicate_of == rows[-1]["id"]


@pytest.mark.parametrize(
    ("step", "field"),
    [({"threshold": 0.49}, "threshold"), ({"threshold": 1.01}, "threshold"), ({"clusters": 4_097}, "clusters")],
)
def test_impossible_settings_are_refused(step: dict[str, Any], field: str) -> None:
    with pytest.raises(WrongSetting) as caught:
        SemanticDuplicates(**step)
    assert caught.value.field == field


def order(encoder: dict[str, Any]) -> pb.CurateDatasetRequest:
    params = struct_pb2.Struct()
    params.update({"encoder": encoder})
    step = pb.CurationStep(step="semantic_duplicates", params=params)
    return pb.CurateDatasetRequest(parent="projects/p", dataset_id="d", sources=[], steps=[step])


@pytest.mark.parametrize(
    ("encoder", "field"),
    [
        ({"kind": "magic"}, ""),
        ({"kind": "hashing", "dimension": 4}, ".dimension"),
        ({"kind": "hashing", "size": 4}, ".size"),
        ({"kind": "huggingface"}, ".model"),
        ({"kind": "endpoint", "model": "m", "base_url": "ftp://x/v1"}, ".base_url"),
        ({"kind": "endpoint", "model": "m", "base_url": "http://169.254.169.254/v1"}, ".base_url"),
        ({"kind": "endpoint", "model": "m", "base_url": "http://a.example/v1", "api_key_env": "PATH"}, ".api_key_env"),
    ],
)
def test_every_wrong_setting_of_an_encoder_is_named(encoder: dict[str, Any], field: str) -> None:
    options = CurationOptions(encoder=EncoderOptions(hosts=("*.example",)))
    with pytest.raises(Invalid) as caught:
        codec.decode_order(order(encoder), options)
    assert [path for path, _ in caught.value.violations] == [f"steps[0].params.encoder{field}"]


def test_an_encoder_is_read_and_kept_with_all_its_settings() -> None:
    asked = order({"kind": "endpoint", "model": "m", "base_url": "http://a.example/v1"})
    ((name, step),) = codec.decode_order(asked, CurationOptions(encoder=EncoderOptions(hosts=("*.example",))))
    assert isinstance(step, SemanticDuplicates)
    assert step.encoder == Endpoint(model="m", base_url="http://a.example/v1")
    kept = codec.encode_step(name, step)
    assert (kept["encoder"]["kind"], kept["encoder"]["request_rows"]) == ("endpoint", 128)
    assert json.dumps(kept)
