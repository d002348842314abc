from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from anneal.kit.engine.adapters import TensorFacts
from anneal.serving.adapters.model_files import read_adapter, read_base_layers

NAME = "base_model.model.layer.lora_A.weight"


def tensor_of(folder: Path) -> TensorFacts:
    tensors = read_adapter(folder).tensors
    assert tensors is not None
    return tensors[0]


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize(
    ("values", "finite", "nonzero"),
    [
        ([1.0, -2.0], True, True),
        ([0.0, -0.0], True, False),
        ([1.0, float("nan")], False, True),
        ([float("-inf"), 0.0], False, True),
    ],
)
def test_finite_and_nonzero(tmp_path: Path, kind: Any, values: list[float], finite: bool, nonzero: bool) -> None:
    save_file({NAME: np.array(values, dtype=kind)}, tmp_path / "adapter_model.safetensors")
    assert tensor_of(tmp_path) == TensorFacts(NAME, (2,), finite=finite, nonzero=nonzero)


@pytest.mark.parametrize(("bits", "finite"), [(0x3F80, True), (0x7F7F, True), (0x7F80, False), (0xFFC0, False)])
def test_bfloat16_is_read_by_its_bits(tmp_path: Path, bits: int, finite: bool) -> None:
    header = json.dumps({NAME: {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    data = struct.pack("<Q", len(header)) + header + struct.pack("<H", bits)
    (tmp_path / "adapter_model.safetensors").write_bytes(data)
    assert tensor_of(tmp_path) == TensorFacts(NAME, (1,), finite=finite, nonzero=True)


def test_integers_are_no_weights(tmp_path: Path) -> None:
    save_file({NAME: np.array([1, 2], dtype=np.int8)}, tmp_path / "adapter_model.safetensors")
    assert not tensor_of(tmp_path).finite


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"PK\x03\x04pickle"])
def test_what_is_no_safetensors_has_no_tensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    assert read_adapter(tmp_path).tensors is None
    assert read_base_layers(tmp_path) == {}


def test_the_base_is_named_where_peft_names_it_or_beside_it(tmp_path: Path) -> None:
    digest, other = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    assert read_adapter(tmp_path).base_digest is None
    (tmp_path / "anneal.json").write_text(json.dumps({"base_model_digest": digest}))
    assert read_adapter(tmp_path).base_digest == digest
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": other}))
    assert read_adapter(tmp_path).base_digest == other
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/model"}))
    assert read_adapter(tmp_path).base_digest == digest


def test_linear_layers_are_matrices_named_weight(tmp_path: Path) -> None:
    tensors = {"a.q_proj.weight": np.zeros((4, 3)), "a.norm.weight": np.zeros(3), "a.q_proj.bias": np.zeros((2, 2))}
    save_file(tensors, tmp_path / "model-00001-of-00001.safetensors")
    assert read_base_layers(tmp_path) == {"a.q_proj": (4, 3)}
