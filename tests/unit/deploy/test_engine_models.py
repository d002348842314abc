"""The table of what the engine serves is that of the installed vLLM, and its rules."""

from __future__ import annotations

from deploy.local.engine_models import TARGET, engine_models, text


def test_the_table_is_that_of_the_installed_engine() -> None:
    assert TARGET.read_text(encoding="utf-8") == text(), "run `make engine-models`"


def test_what_is_read_out_of_the_source_has_what_is_known_of_vllm() -> None:
    found = engine_models()
    known = found["architectures"]
    assert len(known) > 200
    for name in ("LlamaForCausalLM", "Qwen3MoeForCausalLM", "GptOssForCausalLM", "SmolLM3ForCausalLM"):
        assert known[name]["adapters"]
    assert not known["MambaForCausalLM"]["adapters"]
    assert not known["GPT2LMHeadModel"]["adapters"]
    assert known["Gemma3ForConditionalGeneration"]["prefixes"]["model.language_model."] == "language_model.model."
    assert not {"T5ForConditionalGeneration", "BertForMaskedLM"} & set(known)
    assert {64, 128} <= set(found["cpu_head_sizes"])
