"""What serving would refuse is refused before a training: for every kind of base, by the check that serving makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from anneal.kit.engine.adapters import check_adapter
from anneal.serving.adapters.model_files import read_adapter, read_base_layers, read_engine_model
from anneal.training.describing import describe_model
from anneal.training.domain.base_model import ModelShape, open_base_model, open_shape
from anneal.training.domain.errors import BaseUnusable, SpecInvalid
from anneal.training.domain.methods import METHODS
from anneal.training.domain.methods.lora import Lora, reached_share, target_layers
from anneal.training.domain.plan import memory_bytes
from anneal.training.domain.served import check_base, check_folder, check_spec
from anneal.training.domain.spec import LoraOptions, TrainingSpec
from tests.fixtures.base_models import MODELS, write_model

BASE = "sha256:" + "c" * 64
DENSE = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
SERVED = {
    **dict.fromkeys(("llama", "qwen2", "qwen3", "gemma2", "gemma3-text", "gemma3", "qwen2-moe"), DENSE),
    **dict.fromkeys(("qwen3-moe", "mixtral", "gpt-oss"), ATTENTION),
    "phi3": {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
    "deepseek-v3": {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "o_proj"},
}
"""Bases that can be served, and the layers that `all-linear` means there."""
REFUSED = {
    "mistral3": "architecture",
    "qwen2-vl": "architecture",
    "mamba": "adapters",
    "gpt2": "adapters",
    "t5": "encoder_decoder",
    "bert": "architecture",
    "small-heads": "head_size",
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of a base model, written when it is first asked for."""
    root = tmp_path_factory.mktemp("bases")

    def folder(name: str) -> Path:
        return root / name if (root / name).exists() else write_model(root / name, name)

    return folder


def spec(**lora: Any) -> TrainingSpec:
    return TrainingSpec(context_tokens=64, precision="float32", lora=LoraOptions(**{"rank": 4, "alpha": 8, **lora}))


def check(shape: ModelShape, max_rank: int = 32, **lora: Any) -> None:
    check_spec(spec(**lora), shape, max_rank=max_rank, device="cpu")


def wrong_fields(shape: ModelShape, max_rank: int = 32, **lora: Any) -> list[str]:
    with pytest.raises(SpecInvalid) as caught:
        check(shape, max_rank, **lora)
    return [field for field, _ in caught.value.violations]


def test_every_model_is_either_served_or_refused() -> None:
    assert set(SERVED) | set(REFUSED) == set(MODELS)


@pytest.mark.parametrize("name", SERVED)
def test_what_is_accepted_is_what_serving_loads(name: str, written: Any, tmp_path: Path) -> None:
    folder = written(name)
    check_folder(folder, "cpu")
    assert describe_model(folder)["context_length"] == 256
    base = open_base_model(folder)
    check(base)
    method = Lora(spec())
    model = method.wrap(base.load(torch.float32))
    for parameter, value in model.named_parameters():
        if "lora_B" in parameter:
            torch.nn.init.normal_(value)
    method.save(model, tmp_path, base_name=BASE)
    facts = read_adapter(tmp_path)
    layers, engine = read_base_layers(folder), read_engine_model(folder)
    shape = check_adapter("a", facts, base_digest=BASE, base_layers=layers, max_rank=4, engine_model=engine)
    assert set(shape.targets) == SERVED[name]
    config, shapes = method.written(method.wrap(base.skeleton()))
    assert facts.tensors is not None
    assert {tensor.name: tensor.shape for tensor in facts.tensors} == shapes, "what is checked is what is written"
    assert facts.config is not None
    assert config["target_modules"] == sorted(facts.config["target_modules"])


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_engine_cannot_compute_is_refused_by_name(name: str, written: Any) -> None:
    folder = written(name)
    with pytest.raises(BaseUnusable) as caught:
        check_folder(folder, "cpu")
    assert caught.value.facts["cause"] == REFUSED[name]
    if name == "small-heads":
        check_folder(folder, "cuda")
    with pytest.raises(BaseUnusable):
        check(open_shape(folder))


def test_a_model_that_no_adapter_fits_is_a_refusal_and_no_bug(written: Any) -> None:
    base = open_base_model(written("mamba"))
    with pytest.raises(BaseUnusable, match="MambaForCausalLM"):
        METHODS["lora"](spec()).wrap(base.load(torch.float32))


def test_a_model_without_an_architecture_in_its_config_is_refused(written: Any) -> None:
    config = open_shape(written("llama")).config
    config.architectures = None
    with pytest.raises(BaseUnusable, match="names no architecture"):
        check_base(config, "cpu")


def test_a_rank_that_serving_has_no_room_for_is_named(written: Any) -> None:
    shape = open_shape(written("llama"))
    check(shape, max_rank=64, rank=64)
    assert wrong_fields(shape, max_rank=32, rank=64) == ["lora.rank"]
    assert wrong_fields(shape, rank=8, alpha=20_000) == ["lora.alpha"]


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("llama", ("q_proj", "lm_head")),
        ("qwen3-moe", ("q_proj", "down_proj")),
        ("deepseek-v3", ("gate_proj", "up_proj", "down_proj")),
        ("deepseek-v3", ("kv_b_proj",)),
        ("qwen2-moe", ("shared_expert_gate",)),
        ("gemma3", ("fc1",)),
        ("llama", ("query_key_value",)),
    ],
)
def test_targets_that_serving_refuses_are_refused_before(name: str, targets: tuple[str, ...], written: Any) -> None:
    assert wrong_fields(open_shape(written(name)), targets=targets) == ["lora.targets"]


def test_names_mean_the_language_model_of_a_model_that_also_sees(written: Any) -> None:
    skeleton = open_shape(written("gemma3")).skeleton()
    for targets in (("all-linear",), ("q_proj", "v_proj")):
        found = target_layers(skeleton, targets)
        assert found
        assert all(name.startswith("model.language_model.") for name in found)
    assert target_layers(skeleton, ("fc1",)), "what only the vision tower has is found, so that it can be refused"


def test_figures_of_a_wrapped_model_are_those_of_its_language_model(written: Any) -> None:
    alone, wrapped = open_shape(written("gemma3-text")), open_shape(written("gemma3"))
    assert wrapped.context_length == alone.context_length == 256
    figures = [memory_bytes(spec(), shape.config, 100_000, 1_000) for shape in (alone, wrapped)]
    assert figures[0] == figures[1] > memory_bytes(spec(), alone.config, 0, 0)


def test_the_share_of_the_weights_that_an_adapter_reaches(written: Any) -> None:
    mixture, dense = (open_shape(written(name)).skeleton() for name in ("gpt-oss", "llama"))
    assert reached_share(mixture, ("all-linear",)) < 0.15
    assert reached_share(dense, ("all-linear",)) > 0.5
    few = reached_share(dense, ("q_proj",))
    whole = sum(p.numel() for p in dense.parameters())
    assert few == pytest.approx(2 * 64 * 64 / whole)
