"""Which files make up a base model, by their names."""

from __future__ import annotations

import pytest

from anneal.training.domain.model_files import (
    choose_files,
    is_gguf,
    is_taken,
    missing_shards,
    what_is_missing,
    why_left_out,
)

WHOLE = ["config.json", "model.safetensors", "tokenizer.json"]


@pytest.mark.parametrize(
    "name",
    [
        *WHOLE,
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "chat_template.jinja",
        "tokenizer.model",
        "merges.txt",
        "vocab.txt",
        "README.md",
        "LICENSE",
        "LICENSE.txt",
    ],
)
def test_files_of_a_base_model_are_taken(name: str) -> None:
    assert is_taken(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("pytorch_model.bin", "pickled"),
        ("model.pt", "pickled"),
        ("model.Q4_K_M.gguf", "llama.cpp"),
        ("tf_model.h5", "Keras"),
        ("modeling_own.py", "code"),
        ("consolidated.safetensors", "another layout"),
        ("training_args.txt", "no file of a base model"),
        (".gitattributes", "no file of a base model"),
        ("", "no file"),
        (".", "no file"),
        ("..", "no file"),
    ],
)
def test_others_are_left_out_and_the_reason_is_known(name: str, why: str) -> None:
    assert not is_taken(name)
    assert why in why_left_out(name)


@pytest.mark.parametrize(
    "name", ["../config.json", "/etc/x.json", "a/b.json", "a\\b.json", "a\0.json", "./config.json", "original/x.json"]
)
def test_a_name_with_a_way_in_it_is_never_taken(name: str) -> None:
    assert not is_taken(name)


def test_what_a_folder_lacks_is_said_with_what_is_there_instead() -> None:
    assert what_is_missing(WHOLE) == ""
    assert "no config.json" in what_is_missing(["model.safetensors"])
    assert "no weights in another format" in what_is_missing(["config.json"], ["config.json", "notes.txt"])
    assert "not taken" in what_is_missing(["config.json"]), "what is beside it is not known"
    said = what_is_missing(["config.json"], ["config.json", "pytorch_model.bin", "m.gguf"])
    assert "m.gguf (llama.cpp's format, not safetensors)" in said
    assert "pytorch_model.bin (pickled, never loaded)" in said
    assert "save_pretrained" in said


def test_weights_in_safetensors_come_before_a_gguf_file_and_that_before_all_else() -> None:
    assert choose_files([*WHOLE, "m.gguf", "notes.txt"]) == sorted(WHOLE)
    assert choose_files(["config.json", "m.gguf", "pytorch_model.bin", "README.md", "LICENSE"]) == [
        "m.gguf",
        "LICENSE",
        "README.md",
    ]
    several = choose_files(["b.gguf", "a.GGUF"])
    assert several == ["a.GGUF", "b.gguf"]
    assert what_is_missing(["m.gguf"]) == ""
    assert "there are 2 GGUF files (a.GGUF, b.gguf): name the one" in what_is_missing(several)


@pytest.mark.parametrize("name", ["../m.gguf", "a/m.gguf", "a\\m.gguf", "m\0.gguf", "m.gguf.part", "gguf"])
def test_a_gguf_file_has_its_ending_and_no_way_in_its_name(name: str) -> None:
    assert not is_gguf(name)


def test_files_that_the_index_names_have_to_be_there() -> None:
    weights = {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors"}
    assert missing_shards(["model-1.safetensors"], weights) == ["model-2.safetensors"]
    assert missing_shards(set(weights.values()), weights) == []
