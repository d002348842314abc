"""Specs, schedules, the order of rows, the codec."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from anneal.kit.errors import Invalid
from anneal.training import codec
from anneal.training.domain.errors import SpecInvalid
from anneal.training.domain.methods import METHODS
from anneal.training.domain.order import Order
from anneal.training.domain.schedule import learning_rate
from anneal.training.domain.spec import TrainingSpec
from anneal.training.errors import make_refusal
from anneal.v1 import training_service_pb2 as pb

SPEC = TrainingSpec(learning_rate=1.0, warmup_share=0.1, final_share=0.1)


def test_the_rate_rises_then_decays_to_its_share() -> None:
    rates = [learning_rate(SPEC, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] == pytest.approx(0.1)


def test_linear_and_constant() -> None:
    linear = replace(SPEC, schedule="linear", warmup_share=0.0, final_share=0.0)
    assert learning_rate(linear, 0, 101) == pytest.approx(1.0)
    assert learning_rate(linear, 50, 101) == pytest.approx(0.5)
    assert learning_rate(linear, 100, 101) == pytest.approx(0.0)
    assert learning_rate(replace(SPEC, schedule="constant"), 99, 100) == 1.0


def test_every_epoch_reads_every_row_once_in_its_own_order() -> None:
    order = Order(TrainingSpec(rows_per_forward=2, forwards_per_step=2, num_epochs=2), 10)
    assert (order.steps_per_epoch, order.num_steps) == (3, 6)
    epochs = [[i for step in range(e * 3, e * 3 + 3) for rows in order.forwards(step) for i in rows] for e in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]


def test_max_steps_decides_when_it_is_given() -> None:
    assert Order(TrainingSpec(max_steps=7), 1000).num_steps == 7


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"num_epochs": 0.0}, "num_epochs"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"warmup_share": 1.1}, "warmup_share"),
        ({"seed": -1}, "seed"),
        ({"lora": {"dropout": 1.0}}, "lora.dropout"),
        ({"lora": {"rank": 513}}, "lora.rank"),
        ({"lora": {"alpha": 0}}, "lora.alpha"),
        ({"no_such": 1}, "no_such"),
        ({"packed": 1}, "packed"),
    ],
)
def test_an_impossible_spec_names_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        TrainingSpec.from_mapping(change)
    assert [name for name, _ in caught.value.violations] == [field]


def test_a_spec_survives_its_mapping() -> None:
    spec = TrainingSpec(seed=3, learning_rate=1e-4)
    assert TrainingSpec.from_mapping(spec.as_mapping()) == spec


def test_the_methods_of_the_codec_are_those_of_the_table() -> None:
    assert set(codec.METHODS) == set(METHODS) == set(codec.LEARNING_RATES)


def decoded(**fields: Any) -> dict[str, Any]:
    return codec.decode_spec(pb.TrainingSpec(**{"method": "lora", **fields}), max_workers=4)


def test_zero_and_empty_mean_what_the_contract_says() -> None:
    spec = decoded()
    assert spec["learning_rate"] == 2e-4
    assert decoded(method="full")["learning_rate"] == 2e-5
    assert (spec["lora"]["rank"], spec["lora"]["alpha"], spec["lora"]["targets"]) == (8, 16, ["all-linear"])
    assert (spec["schedule"], spec["max_grad_norm"], spec["num_epochs"]) == ("cosine", 1.0, 1.0)
    assert (spec["rows_per_forward"], spec["forwards_per_step"], spec["context_tokens"]) == (1, 1, 0)
    assert (spec["overlong"], spec["packed"], spec["precision"], spec["objective"]) == (
        "refuse",
        True,
        "auto",
        "instruction",
    )


def test_a_step_grows_with_the_workers() -> None:
    assert decoded(accumulation_steps=3, workers=2)["forwards_per_step"] == 6


@pytest.mark.parametrize(
    ("fields", "violated"),
    [
        ({"method": ""}, ["spec.method"]),
        ({"method": "qlora"}, ["spec.method"]),
        ({"objective": 9}, ["spec.objective"]),
        ({"scheduler": "step", "dtype": "int8"}, ["spec.scheduler", "spec.dtype"]),
        ({"too_long": "split"}, ["spec.too_long"]),
        ({"workers": 5}, ["spec.workers"]),
        ({"workers": -1}, ["spec.workers"]),
        ({"max_length": 7}, ["spec.max_length"]),
        ({"max_length": -1}, ["spec.max_length"]),
        ({"batch_size": -1}, ["spec.batch_size"]),
        ({"accumulation_steps": -1}, ["spec.accumulation_steps"]),
        ({"lora": pb.LoraSpec(alpha=1.5)}, ["spec.lora.alpha"]),
        ({"lora": pb.LoraSpec(alpha=float("nan"))}, ["spec.lora.alpha"]),
        ({"lora": pb.LoraSpec(rank=-1)}, ["spec.lora.rank", "spec.lora.alpha"]),
        ({"lora": pb.LoraSpec(dropout=1.0)}, ["spec.lora.dropout"]),
        ({"lora": pb.LoraSpec(target_modules=[""])}, ["spec.lora.target_modules"]),
        ({"learning_rate": -1.0}, ["spec.learning_rate"]),
        ({"learning_rate": float("nan")}, ["spec.learning_rate"]),
        ({"learning_rate": float("inf")}, ["spec.learning_rate"]),
        ({"epochs": -1.0}, ["spec.epochs"]),
        ({"max_steps": -1}, ["spec.max_steps"]),
        ({"warmup_ratio": 1.5}, ["spec.warmup_ratio"]),
        ({"weight_decay": -0.1}, ["spec.weight_decay"]),
        ({"max_grad_norm": -1.0}, ["spec.max_grad_norm"]),
        ({"evaluation_steps": -1}, ["spec.evaluation_steps"]),
        ({"checkpoint_steps": -1}, ["spec.checkpoint_steps"]),
        ({"patience": -1}, ["spec.patience"]),
        ({"seed": -1}, ["spec.seed"]),
        ({"max_rows": -1}, ["spec.max_rows"]),
    ],
)
def test_every_impossible_value_is_a_violation_of_its_field(fields: dict[str, Any], violated: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        decoded(**fields)
    assert [field for field, _ in caught.value.violations] == violated


def test_a_violation_found_by_a_worker_speaks_of_the_contracts_field() -> None:
    refusal = make_refusal("TRAINING_SPEC_INVALID", "", {}, [("lora.targets", "the base has no layer named x")])
    assert isinstance(refusal, Invalid)
    assert refusal.violations == (("spec.lora.target_modules", "the base has no layer named x"),)
    assert make_refusal("MASK_EMPTY", "nothing", {"row_id": "r"}).reason == "MASK_EMPTY"
