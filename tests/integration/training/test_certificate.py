"""The certificate on models that compute: good adapters pass under other kernels, every planted bug is refused.

The engine is stood in for by torch (`benchmarks/parity`); with CUDA's vLLM the same is checked by `make gpu-check`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from anneal.registry.codec import parity_of
from anneal.registry.domain.publishing import check_parity
from anneal.training.domain.expectations import padded_logprobs, sequence_logprobs
from anneal.training.errors import EffectTooSmall, ParityFailed
from anneal.training.parity import Answer, certify
from anneal.v1 import adapter_pb2
from benchmarks.parity.adapters import BUGS, Recipe, plant, train
from benchmarks.parity.bases import Chain, write_base
from benchmarks.parity.measuring import expect, open_served, quantise
from benchmarks.parity.standins import STAND_INS, serve

pytestmark = pytest.mark.timeout(600)
DTYPES = ("float32", "bfloat16", "float16")
FAMILIES = {"llama": torch.float32, "qwen3": torch.bfloat16}


class World:
    """A base of a family with an adapter, and what is expected of it."""

    def __init__(self, folder: Path, family: str) -> None:
        self.folder, self.dtype = folder, FAMILIES[family]
        self.base, self.other = (
            write_base(folder / f"base-{seed}", family, layers=2, dtype=self.dtype, seed=seed, steps=40)
            for seed in (3, 4)
        )
        self.chain = Chain.seeded(3).moved(9, 0.6)
        self.adapter, self.expected = self.trained("strong", steps=20, learning_rate=3e-3)

    def trained(self, name: str, *, steps: int, learning_rate: float) -> tuple[Path, list[dict[str, Any]]]:
        recipe = Recipe(
            rank=8, alpha=12.0, targets=("all-linear",), steps=steps, learning_rate=learning_rate, share=0.6, seed=3
        )
        adapter = self.folder / name
        train(self.base, adapter, recipe, self.chain)
        return adapter, expect(self.base, adapter, self.chain.rows(12, 8), DTYPES)

    def certify(
        self,
        model: Any,
        dtype: str,
        way: str,
        *,
        expected: list[dict[str, Any]] | None = None,
        prefix: tuple[int, ...] = (),
    ) -> adapter_pb2.ParityCertificate:
        """The certificate of what a model answers; a prefix is what another template writes first."""
        wanted = expected or self.expected
        rows = [[*prefix, *e["token_ids"]] for e in wanted]
        said = {
            e["row_id"]: (row, s) for e, row, s in zip(wanted, rows, serve(model, rows, STAND_INS[way]), strict=True)
        }

        def score(expected: dict[str, Any]) -> Answer:
            row, logprobs = said[expected["row_id"]]
            return Answer(token_ids=row, logprobs=[None, *logprobs], dtype=dtype, engine="torch")

        return certify(wanted, score, base_dtype=str(self.dtype).removeprefix("torch."))


@pytest.fixture(scope="module", params=FAMILIES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_good_adapter_is_certified_under_every_way_of_computing_and_published(world: World, dtype: str) -> None:
    model = open_served(world.base, world.adapter, dtype)
    for way in STAND_INS:
        made = world.certify(model, dtype, way)
        assert (made.passed, made.dtype) == (True, dtype), way
        assert made.base_dtype == str(world.dtype).removeprefix("torch.")
        assert made.effect_kept == pytest.approx(1, abs=0.05)
        check_parity(parity_of(adapter_pb2.AdapterVersion(parity=made)), "a")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_refused(world: World, bug: str, dtype: str, tmp_path: Path) -> None:
    model = open_served(world.base, plant(bug, world.adapter, tmp_path / "bug"), dtype)
    with pytest.raises(ParityFailed, match=f"both in {dtype}"):
        world.certify(model, dtype, "sums in three parts")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_another_base_a_rounded_one_and_another_template_are_refused(world: World, dtype: str) -> None:
    with pytest.raises(ParityFailed):
        world.certify(open_served(world.other, world.adapter, dtype), dtype, "eager attention")
    model = open_served(world.base, world.adapter, dtype)
    with pytest.raises(ParityFailed, match="differently from token 0 on"):
        world.certify(model, dtype, "eager attention", prefix=(5, 6))
    quantise(model)
    with pytest.raises(ParityFailed):
        world.certify(model, dtype, "eager attention")


def test_an_adapter_that_bfloat16_rounds_away_is_certified_in_float32_only(world: World) -> None:
    adapter, expected = world.trained("weak", steps=1, learning_rate=1e-5)
    float32 = world.certify(
        open_served(world.base, adapter, "float32"), "float32", "eager attention", expected=expected
    )
    assert float32.passed
    with pytest.raises(EffectTooSmall, match="serve in float32") as refused:
        world.certify(open_served(world.base, adapter, "bfloat16"), "bfloat16", "eager attention", expected=expected)
    assert refused.value.reason == "EFFECT_TOO_SMALL"


def test_both_computations_of_training_are_of_the_same_sequences(world: World) -> None:
    model = open_served(world.base, world.adapter, "float32")
    rows = [e["token_ids"] for e in world.expected[:3]]
    sequences = [rows[0], rows[1][:7], rows[0][:20], rows[2][:33], rows[1]]
    once, again = sequence_logprobs(model, sequences), padded_logprobs(model, sequences)
    assert [len(found) for found in once] == [len(found) for found in again] == [len(ids) - 1 for ids in sequences]
    for first, second in zip(once, again, strict=True):
        assert second == pytest.approx(first, abs=1e-4)
    assert once[2] == once[0][:19]
