"""Which base models the engine computes."""

from __future__ import annotations

from typing import Any

import pytest

from anneal.kit.engine.models import BaseShape, Device, engine_model, why_unserved
from anneal.kit.options import EngineOptions


def shape(**changes: Any) -> BaseShape:
    return BaseShape(
        **{"architectures": ("LlamaForCausalLM",), "is_encoder_decoder": False, "head_size": 64, **changes}
    )


def cause(base: BaseShape, device: Device = "cpu") -> str | None:
    found = why_unserved(base, device)
    return None if found is None else found[0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"head_size": None}, None),
        ({"architectures": ()}, "architecture"),
        ({"architectures": ("BartForConditionalGeneration",), "is_encoder_decoder": True}, "encoder_decoder"),
        ({"architectures": ("RobertaForMaskedLM",)}, "architecture"),
        ({"architectures": ("BloomForCausalLM",)}, "adapters"),
        ({"head_size": 48}, "head_size"),
    ],
)
def test_what_is_not_served_has_a_cause(changes: dict[str, Any], expected: str | None) -> None:
    assert cause(shape(**changes)) == expected


def test_head_sizes_depend_on_where_the_engine_computes() -> None:
    assert cause(shape(head_size=48), "cuda") is None
    why = why_unserved(shape(head_size=48), "cpu")
    assert why is not None
    assert "48" in why[1]
    assert "engine.device" in why[1]


def test_names_of_old_and_new_layouts_are_one_to_the_engine() -> None:
    model = engine_model("Gemma3ForConditionalGeneration")
    assert model is not None
    assert model.multimodal
    new = model.name_of("model.language_model.layers.0.self_attn.q_proj")
    assert new == "language_model.model.layers.0.self_attn.q_proj" == model.name_of(new)
    assert engine_model("NobodysForCausalLM") is None


def test_a_base_model_can_have_servers_with_another_room_for_adapters() -> None:
    options = EngineOptions(max_rank=16, max_ranks={"projects/p/models/large": 128})
    assert options.rank_of("projects/p/models/large") == 128
    assert options.rank_of("projects/p/models/other") == 16
