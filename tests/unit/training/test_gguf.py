"""A GGUF file becomes a base model: exactly its numbers, or a refusal that names what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, quants
from transformers import AutoModelForCausalLM, AutoTokenizer

from anneal.training.describing import describe_model
from anneal.training.domain.errors import BaseUnusable
from anneal.training.domain.gguf import card, convert, read_gguf
from tests.fixtures.gguf_model import F16, F32, Q4_1, Q8_0, write_gguf
from tests.fixtures.tiny_model import UNMARKED, tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TEXTS = ("The function f1 returns 1.", "  two  spaces\n\nand lines ", "äöü 你好 <|im_end|>")


def converted(path: Path) -> Path:
    folder = path.parent / f"{path.stem}-converted"
    folder.mkdir(exist_ok=True)
    convert(read_gguf(path), folder)
    return folder


def logits(folder: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 60)[None]).logits


@pytest.mark.parametrize(("quantization", "name", "stored"), [(F32, "F32", torch.float32), (F16, "F16", torch.float16)])
def test_plain_numbers_keep_their_type_and_the_model_computes_as_before(
    tmp_path: Path, quantization: GGMLQuantizationType, name: str, stored: torch.dtype
) -> None:
    source = write_gguf(tmp_path / "m.gguf", quantization=quantization)
    file = read_gguf(tmp_path / "m.gguf")
    assert (file.quantization, file.dtype, file.architecture, file.license) == (name, stored, "llama", "apache-2.0")
    difference = (logits(converted(tmp_path / "m.gguf")) - logits(source)).abs().max()
    assert difference < (1e-5 if quantization is F32 else 5e-3)


@pytest.mark.parametrize("quantization", [Q4_1, Q8_0])
def test_blocks_are_unpacked_to_exactly_their_values(tmp_path: Path, quantization: GGMLQuantizationType) -> None:
    source = write_gguf(tmp_path / "m.gguf", quantization=quantization)
    packed = AutoModelForCausalLM.from_pretrained(source)
    for weight in packed.parameters():
        if weight.ndim > 1:
            values = quants.dequantize(quants.quantize(weight.detach().numpy(), quantization), quantization)
            weight.data.copy_(torch.from_numpy(values))
    folder = converted(tmp_path / "m.gguf")
    loaded = dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())
    for name, weight in packed.named_parameters():
        assert torch.equal(loaded[name], weight), name
    assert read_gguf(tmp_path / "m.gguf").dtype is torch.float32


def test_the_tokenizer_is_the_one_that_was_packed(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    found, wanted = AutoTokenizer.from_pretrained(converted(tmp_path / "m.gguf")), tokenizer(UNMARKED)
    for text in TEXTS:
        assert found(text)["input_ids"] == wanted(text)["input_ids"]
        assert found.decode(found(text)["input_ids"]) == text
    assert found.chat_template == UNMARKED
    assert (found.eos_token, found.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_what_is_written_is_a_base_model_and_always_the_same(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    first = converted(tmp_path / "m.gguf")
    made = describe_model(first)
    assert (made["architecture"], made["context_length"]) == ("LlamaForCausalLM", 128)
    second = tmp_path / "again"
    second.mkdir()
    convert(read_gguf(tmp_path / "m.gguf"), second)
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
        assert str(tmp_path) not in path.read_text(errors="replace"), "no path of this machine"


def test_the_card_says_what_the_file_was(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    text = card(read_gguf(tmp_path / "m.gguf"), "sha256:ab", "")
    assert text.startswith("---\nlicense: apache-2.0\n---\n\n# Tiny\n")
    for said in ("`m.gguf`", "`sha256:ab`", "| quantisation | Q4_1 |", "| stored as | float32 |"):
        assert said in text
    own = card(read_gguf(tmp_path / "m.gguf"), "sha256:ab", "---\nlicense: mit\n---\n# Its own\n")
    assert own.startswith("---\nlicense: mit\n---\n# Its own\n\n## Dequantised")


def said_of(path: Path) -> str:
    with pytest.raises(BaseUnusable) as refused:
        converted(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_is_no_gguf_or_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    whole = (tmp_path / "m.gguf").read_bytes()
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"PK\3\4" + whole[4:])
    assert "no GGUF file" in said_of(broken)
    for size in (0, 3):
        broken.write_bytes(whole[:size])
        assert "no GGUF file" in said_of(broken)
    for size in (4, 20, 24, 300, len(whole) // 20, len(whole) // 2, len(whole) - 40):
        broken.write_bytes(whole[:size])
        assert "damaged or cut off" in said_of(broken), size


def test_a_damaged_count_is_refused_and_not_counted_through(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    whole = bytearray((tmp_path / "m.gguf").read_bytes())
    at = whole.index(b"tokenizer.ggml.token_type") + len(b"tokenizer.ggml.token_type") + 8  # its array's length
    whole[at : at + 8] = (1 << 62).to_bytes(8, "little")
    (tmp_path / "m.gguf").write_bytes(whole)
    assert "damaged or cut off" in said_of(tmp_path / "m.gguf")


def test_an_architecture_that_is_not_read_is_named(tmp_path: Path) -> None:
    for name in ("rwkv7", "t5", "clip"):
        path = tmp_path / f"{name}.gguf"
        write_gguf(path, architecture=name)
        assert f"architecture {name}, which is not read from GGUF" in said_of(path)


def test_a_part_of_a_split_model_is_named_by_header_and_by_name(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", extra={"split.count": 3})
    assert "split over 3 files" in said_of(tmp_path / "m.gguf")
    write_gguf(tmp_path / "m-00001-of-00002.gguf")
    assert "split over several files" in said_of(tmp_path / "m-00001-of-00002.gguf")


def test_what_transformers_would_leave_out_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "scaled.gguf", extra={"llama.rope.scaling.type": "yarn"})
    assert "rope scaling 'yarn'" in said_of(tmp_path / "scaled.gguf")
    write_gguf(tmp_path / "freqs.gguf", tensors={"rope_freqs.weight": np.ones(16, dtype=np.float32)})
    assert "rope_freqs.weight" in said_of(tmp_path / "freqs.gguf")
    write_gguf(tmp_path / "lacks.gguf", leave_out=("blk.1.ffn_up.weight",))
    assert "lacks 1 weights of its architecture: model.layers.1.mlp.up_proj.weight" in said_of(tmp_path / "lacks.gguf")


def test_a_quantisation_that_cannot_be_unpacked_is_named(tmp_path: Path) -> None:
    strange = GGMLQuantizationType.I8
    write_gguf(tmp_path / "m.gguf", tensors={"blk.0.extra.weight": np.ones((2, 32), dtype=np.int8)})
    assert f"quantised as {strange.name}" in said_of(tmp_path / "m.gguf")
