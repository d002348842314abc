"""A base model's folder on the client: what is sent of it, and what is refused before anything is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from anneal.cli.model_folder import ModelFolderRefused, choose, read
from anneal.cli.uploads import FileChanged, measure
from anneal.kit.store import Store


def model(folder: Path, **more: str) -> Path:
    folder.mkdir(parents=True)
    files = {"config.json": "{}", "model.safetensors": "weights", "tokenizer.json": "{}", **more}
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_what_belongs_to_a_model_is_chosen_and_the_rest_is_named(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", **{"pytorch_model.bin": "x", "run.py": "x", "notes.txt": "x", "vocab.txt": ""})
    (folder / "original").mkdir()
    chosen = choose(folder)
    assert list(chosen.files) == ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt"]
    assert chosen.left_out == (
        "notes.txt (no file of a base model)",
        "original/ (a folder)",
        "pytorch_model.bin (pickled, never loaded)",
        "run.py (code, never run)",
    )


def test_of_a_folder_with_one_gguf_file_that_with_card_and_licence_is_chosen(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", **{"m.gguf": "packed", "README.md": "x", "LICENSE": "x", "run.py": "x"})
    (folder / "model.safetensors").unlink()
    chosen = choose(folder)
    assert set(chosen.files) == {"LICENSE", "README.md", "m.gguf"}
    assert chosen.left_out == (
        "config.json (the GGUF file holds its own)",
        "run.py (code, never run)",
        "tokenizer.json (the GGUF file holds its own)",
    )


def test_a_gguf_file_beside_safetensors_is_left_out_unless_it_is_named(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", **{"m.gguf": "packed"})
    assert choose(folder).left_out == ("m.gguf (llama.cpp's format, not safetensors)",)
    named = choose(folder / "m.gguf")
    assert (named.folder, list(named.files), named.left_out) == (folder, ["m.gguf"], ())
    known = read(named, lambda done, total, what: None)
    assert known.digest == known.measured["m.gguf"].digest, "it is converted: what comes of it is not known here"


def test_the_digest_is_the_one_that_the_store_gives(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", **{"vocab.txt": ""})
    seen: list[tuple[int, int]] = []
    known = read(choose(folder), lambda done, total, what: seen.append((done, total)))
    assert known.digest == Store(str(tmp_path / "store"), tmp_path / "cache").put_tree(folder)
    assert seen[-1] == (11, 11)


def test_a_snapshot_of_the_hubs_cache_is_a_model(tmp_path: Path) -> None:
    root = tmp_path / "hub" / "models--owner--name"
    blobs = model(root / "blobs")
    snapshot = root / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    (tmp_path / "here").symlink_to(snapshot)
    for folder in (snapshot, tmp_path / "here"):
        assert choose(folder).files["config.json"] == blobs / "config.json"
    with pytest.raises(ModelFolderRefused, match=r"one is in snapshots/abc"):
        choose(root)


def test_a_link_that_leads_elsewhere_is_refused_by_name(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    cache = model(tmp_path / "models--o--n" / "snapshots" / "abc")
    for number, folder in enumerate([model(tmp_path / "m"), model(tmp_path / "snapshots" / "m"), cache]):
        (folder / "extra.json").symlink_to(secret)
        with pytest.raises(ModelFolderRefused, match=r"extra\.json is a link that leads out of the folder"):
            choose(folder)
        (folder / "extra.json").unlink()
        (folder / "extra.json").symlink_to(folder / "tokenizer.json")  # inside, it is a file like any other
        assert choose(folder).files["extra.json"] == folder.resolve() / "tokenizer.json", number


@pytest.mark.parametrize("kind", ["fifo", "dangling"])
def test_what_is_no_file_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    folder = model(tmp_path / "m")
    if kind == "fifo":
        os.mkfifo(folder / "odd.json")
    else:
        (folder / "odd.json").symlink_to(folder / "nowhere")
    with pytest.raises(ModelFolderRefused, match=r"odd\.json is (no regular file|a link to a file that is not there)"):
        choose(folder)


@pytest.mark.parametrize(
    ("remove", "add", "says"),
    [
        (["config.json"], {}, "there is no config.json"),
        (["model.safetensors"], {}, "no weights in another format"),
        (["model.safetensors"], {"pytorch_model.bin": "x", "m.h5": "x"}, r"m\.h5 .*pytorch_model\.bin \(pickled"),
        (["model.safetensors"], {"m.Q4_0.gguf": "x", "m.Q8_0.GGUF": "x"}, r"2 GGUF files .*: name the one to import"),
        (["model.safetensors"], {"m.gguf": ""}, "m.gguf is empty"),
        (["model.safetensors"], {"consolidated.safetensors": "x"}, "no .*safetensors"),
        ([], {"model.safetensors": ""}, "model.safetensors is empty"),
        ([], {"config.json": ""}, "config.json is empty"),
        ([], {"model.safetensors.index.json": "{"}, "index.json is damaged"),
        ([], {"model.safetensors.index.json": json.dumps({"weight_map": {"a": "b.safetensors"}})}, "lacks b.safetens"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, remove: list[str], add: dict[str, str], says: str) -> None:
    folder = model(tmp_path / "m")
    for name in remove:
        (folder / name).unlink()
    for name, text in add.items():
        (folder / name).write_text(text)
    with pytest.raises(ModelFolderRefused, match=says) as refused:
        choose(folder)
    assert "\n" not in str(refused.value)


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100)
    measured = measure(path)
    measured.check()
    path.write_bytes(b"y" * 100)
    os.utime(path, ns=(0, 1))
    with pytest.raises(FileChanged, match="changed while it was sent"):
        measured.check()
    path.unlink()
    with pytest.raises(FileChanged):
        measured.check()
