from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from anneal.kit.engine.adapters import (
    AdapterFacts,
    AdapterRefused,
    AdapterShape,
    TensorFacts,
    adaptable_names,
    check_adapter,
)
from anneal.kit.engine.models import EngineModel

BASE = "sha256:" + "b" * 64
ADAPTER = "sha256:" + "a" * 64
Q, UP = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj"
LAYERS = {Q: (64, 32), UP: (96, 32), "model.embed_tokens": (500, 32), "lm_head": (500, 32)}
CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 8,
    "bias": "none",
    "use_dora": False,
    "target_modules": ["q_proj", "up_proj"],
}


def factors(module: str, rank: int = 4, *, finite: bool = True, nonzero: bool = True) -> list[TensorFacts]:
    outputs, inputs = LAYERS.get(module, (64, 32))
    name = f"base_model.model.{module}.lora_"
    return [
        TensorFacts(f"{name}A.weight", (rank, inputs), finite=True, nonzero=True),
        TensorFacts(f"{name}B.weight", (outputs, rank), finite=finite, nonzero=nonzero),
    ]


GOOD = AdapterFacts(
    files=["adapter_config.json", "adapter_model.safetensors"],
    config=CONFIG,
    tensors=[*factors(Q), *factors(UP)],
    base_digest=BASE,
)


def check(facts: AdapterFacts, max_rank: int = 8) -> AdapterShape:
    return check_adapter(ADAPTER, facts, base_digest=BASE, base_layers=LAYERS, max_rank=max_rank)


def with_config(**changes: Any) -> AdapterFacts:
    return replace(GOOD, config={**CONFIG, **changes})


def with_tensors(*tensors: TensorFacts) -> AdapterFacts:
    """Those tensors, and a configuration that names their modules."""
    names = {tensor.name.split(".lora_")[0].rsplit(".", 1)[-1] for tensor in tensors}
    return replace(GOOD, tensors=list(tensors), config={**CONFIG, "target_modules": sorted(names)})


def renamed(tensor: TensorFacts) -> TensorFacts:
    return replace(tensor, name=tensor.name.replace(".weight", ".default.weight"))


def test_a_good_adapter_passes_with_its_shape() -> None:
    assert check(GOOD) == AdapterShape(rank=4, alpha=8.0, targets=("q_proj", "up_proj"))


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        (replace(GOOD, files=["adapter_config.json", "adapter_model.bin"], tensors=None), "pickle"),
        (replace(GOOD, files=[*GOOD.files, "extra.pt"]), "pickle"),
        (replace(GOOD, tensors=None), "no_safetensors"),
        (replace(GOOD, config=None), "no_config"),
        (replace(GOOD, base_digest=None), "base_unknown"),
        (replace(GOOD, base_digest="sha256:" + "c" * 64), "base"),
        (with_config(peft_type="IA3"), "method"),
        (with_config(use_dora=True), "method"),
        (with_config(modules_to_save=["lm_head"]), "method"),
        (with_config(bias="all"), "method"),
        (with_config(r=9), "rank"),
        (with_config(r=0), "rank"),
        (with_config(r=True), "rank"),
        (with_config(r="8"), "rank"),
        (with_config(lora_alpha=0), "alpha"),
        (with_config(lora_alpha=float("nan")), "alpha"),
        (with_config(lora_alpha=10_001), "alpha"),
        (with_tensors(*factors("model.layers.7.self_attn.q_proj")), "targets"),
        (with_tensors(*factors("lm_head")), "targets"),
        (with_tensors(*factors("model.embed_tokens")), "targets"),
        (with_tensors(TensorFacts(f"{Q}.weight", (64, 32), finite=True, nonzero=True)), "targets"),
        (with_tensors(*map(renamed, factors(Q))), "targets"),
        (with_tensors(*factors(Q), renamed(factors(Q)[0])), "targets"),
        (with_tensors(*factors(Q), factors(Q)[0]), "targets"),
        (with_config(target_modules=["q_proj"]), "targets"),
        (with_config(target_modules=["proj", "up_proj"]), "targets"),
        (with_config(target_modules=["q_proj", "up_proj", "v_proj"]), "targets"),
        (with_config(target_modules=[]), "targets"),
        (with_config(target_modules=None), "targets"),
        (with_config(target_modules=[1]), "targets"),
        (with_config(target_modules=""), "targets"),
        (with_tensors(*factors(Q, rank=5)), "shape"),
        (with_tensors(*factors(Q)[:1]), "shape"),
        (with_tensors(*factors(Q, finite=False)), "not_finite"),
        (with_tensors(*factors(Q, nonzero=False)), "no_effect"),
        (with_tensors(), "no_effect"),
    ],
)
def test_each_bad_adapter_is_refused_with_its_cause(facts: AdapterFacts, cause: str) -> None:
    with pytest.raises(AdapterRefused) as caught:
        check(facts)
    assert (caught.value.facts["cause"], caught.value.facts["adapter"]) == (cause, ADAPTER)


def test_both_sides_of_the_highest_rank() -> None:
    check(GOOD, max_rank=4)
    with pytest.raises(AdapterRefused):
        check(GOOD, max_rank=3)


def test_one_module_with_an_effect_is_enough() -> None:
    check(with_tensors(*factors(UP, nonzero=False), *factors(Q)))


@pytest.mark.parametrize("targets", ["all-linear", "(a+)+$", [Q, UP], ["self_attn.q_proj", "up_proj", "mlp.up_proj"]])
def test_targets_may_be_named_in_every_way_of_peft(targets: Any) -> None:
    check(with_config(target_modules=targets))


EXPERT = "model.layers.0.mlp.experts.3.up_proj"
ROUTER = "model.layers.0.mlp.gate"
FOLDED = "model.layers.0.self_attn.kv_b_proj"
SIGHT = "model.vision_tower.encoder.layers.0.self_attn.q_proj"


@pytest.mark.parametrize("module", [EXPERT, ROUTER, FOLDED, SIGHT])
def test_what_the_engine_would_leave_out_of_its_answers_is_refused(module: str) -> None:
    with pytest.raises(AdapterRefused) as caught:
        check_adapter(
            ADAPTER,
            with_tensors(*factors(module)),
            base_digest=BASE,
            base_layers={**LAYERS, module: (64, 32)},
            max_rank=8,
        )
    assert caught.value.facts["cause"] == "targets"
    assert module in str(caught.value)


def test_layers_of_a_wrapped_model_are_found_under_the_names_of_both_layouts() -> None:
    module = "model.language_model.layers.0.self_attn.q_proj"
    stored = {"language_model.model.layers.0.self_attn.q_proj": (64, 32)}
    wrapped = EngineModel(True, True, {"model.language_model.": "language_model.model."})

    def found(engine_model: EngineModel | None) -> AdapterShape:
        return check_adapter(
            ADAPTER,
            with_tensors(*factors(module)),
            base_digest=BASE,
            base_layers=stored,
            max_rank=8,
            engine_model=engine_model,
        )

    assert found(wrapped).targets == ("q_proj",)
    with pytest.raises(AdapterRefused):
        found(None)


def test_an_engine_is_told_which_layers_of_a_mixture_adapters_may_change() -> None:
    names = [Q, UP, EXPERT, ROUTER, FOLDED, "lm_head", "model.layers.1.mlp.shared_expert.down_proj"]
    assert adaptable_names(names) == ["down_proj", "q_proj", "up_proj"]
    assert adaptable_names(["model.layers.0.mlp.experts.gate_up_proj", Q]) == ["q_proj"], "fused experts, too"
    assert adaptable_names([Q, UP, "lm_head"]) is None, "no mixture, nothing to tell"
