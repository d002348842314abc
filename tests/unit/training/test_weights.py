"""A base model's weights are checked without the memory that the whole model needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from anneal.training.describing import describe_model
from anneal.training.domain import base_model
from anneal.training.domain.base_model import BaseModel, open_base_model
from anneal.training.domain.errors import BaseUnusable
from tests.fixtures.tiny_model import write_base

NORM = "model.norm.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


def change(folder: Path, name: str, weight: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    if weight is None:
        del weights[name]
    else:
        weights[name] = weight
    save_file(weights, path, metadata={"format": "pt"})


def test_a_description_takes_no_memory_for_the_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sum(p.numel() for p in open_base_model(folder).load(torch.float32).parameters())

    def never(*_: object) -> None:
        raise AssertionError("the whole model was loaded")

    monkeypatch.setattr(BaseModel, "load", never)
    assert describe_model(folder)["parameter_count"] == whole
    assert {p.device.type for p in open_base_model(folder).check_weights().parameters()} == {"meta"}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_number_that_is_none_is_found_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, bad: float, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(base_model, "_SLICE", 7)
    base_model.check_finite("w", torch.ones(8, 8, dtype=dtype))
    for place in range(64):
        wrong = torch.ones(64, dtype=dtype)
        wrong[place] = bad
        with pytest.raises(BaseUnusable, match="w is not finite"):
            base_model.check_finite("w", wrong.reshape(8, 8))


def test_eight_bit_floats_and_integers_are_looked_at_as_what_they_are(folder: Path) -> None:
    change(folder, "scale", torch.ones(8).to(torch.float8_e4m3fn))
    change(folder, "step", torch.arange(8))
    describe_model(folder)
    change(folder, "scale", torch.full((8,), float("nan")).to(torch.float8_e4m3fn))
    with pytest.raises(BaseUnusable, match="scale is not finite"):
        describe_model(folder)


def test_a_weight_of_another_shape_and_one_that_is_missing_are_refused(folder: Path) -> None:
    change(folder, NORM, torch.ones(65))
    with pytest.raises(BaseUnusable, match="cannot be loaded"):
        describe_model(folder)
    change(folder, NORM, None)
    with pytest.raises(BaseUnusable, match=rf"lacks 1 weights, such as {NORM}"):
        describe_model(folder)
