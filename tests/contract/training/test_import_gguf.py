"""A GGUF file from every place that a base model may come from: one model, recorded as what it was."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import grpc
import pytest

from anneal.kit.digests import digest_of_file
from anneal.v1 import model_pb2
from anneal.v1 import training_service_pb2 as pb
from tests.contract.training.test_import_files import stored
from tests.contract.training.test_import_uri import bucket, fill
from tests.fixtures.gguf_model import write_gguf
from tests.fixtures.hub import COMMIT, hub_server
from tests.fixtures.s3 import Bucket
from tests.fixtures.training_house import PROJECT, House, details

__all__ = ["bucket"]  # a fixture
pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a GGUF file, a licence, and what does not belong to it."""
    folder = tmp_path_factory.mktemp("packed") / "tiny-gguf"
    folder.mkdir()
    shutil.rmtree(write_gguf(folder / "tiny.Q4_1.gguf"))
    (folder / "LICENSE").write_text("Apache License\n")
    return folder


async def imported(house: House, model_id: str, **source: Any) -> model_pb2.Model:
    request = pb.ImportModelRequest(parent=PROJECT, model_id=model_id, **source)
    return await house.model(await house.training.ImportModel(request))


async def failed(house: House, **source: Any) -> tuple[str, str]:
    request = pb.ImportModelRequest(parent=PROJECT, model_id="none", **source)
    done = await house.finished(await house.training.ImportModel(request))
    assert done.HasField("error")
    assert "\n" not in done.error.message
    return details(done.error)[0], done.error.message


def check(house: House, model: model_pb2.Model, packed: Path) -> None:
    """The record names the file, and the stored files are a whole model with a card."""
    assert (model.architecture, model.context_length) == ("LlamaForCausalLM", 128)
    assert (model.quantization, model.source_digest) == ("Q4_1", digest_of_file(packed / "tiny.Q4_1.gguf"))
    folder = house.host.store.materialize(model.digest)
    held = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "README.md"} <= held
    assert not any(name.endswith(".gguf") for name in held)
    card = (folder / "README.md").read_text()
    assert f"`{model.source_digest}`" in card
    assert "| quantisation | Q4_1 |" in card
    assert "| stored as | float32 |" in card


async def test_uploaded(house: House, packed: Path) -> None:
    first = await imported(house, "gguf", files=stored(house, packed))
    check(house, first, packed)
    assert "LICENSE" in {path.name for path in house.host.store.materialize(first.digest).iterdir()}
    again = await imported(house, "gguf", files=stored(house, packed))
    assert again == first, "the same file is the same model"


async def test_of_the_servers_folder_and_of_a_file_in_it(house: House, packed: Path) -> None:
    folder = house.models / "tiny-gguf"
    shutil.copytree(packed, folder)
    check(house, await imported(house, "gguf-folder", folder=str(folder)), packed)
    shutil.copy(folder / "tiny.Q4_1.gguf", folder / "other.gguf")
    reason, message = await failed(house, folder=str(folder))
    assert (reason, "2 GGUF files (other.gguf, tiny.Q4_1.gguf)" in message) == ("BASE_MODEL_UNUSABLE", True)
    named = await imported(house, "gguf-file", folder=str(folder / "tiny.Q4_1.gguf"))
    check(house, named, packed)


@pytest.mark.s3
async def test_of_an_object_store(house: House, bucket: Bucket, packed: Path) -> None:
    fill(bucket, packed, "models/tiny")
    base = f"s3://{bucket.name}/models/tiny"
    check(house, await imported(house, "gguf-uri", uri=base), packed)
    check(house, await imported(house, "gguf-uri-file", uri=f"{base}/tiny.Q4_1.gguf"), packed)
    reason, message = await failed(house, uri=f"{base}/nothing.gguf")
    assert (reason, "nothing.gguf" in message) == ("MODEL_URI_MISSING", True)


async def test_of_the_hub(house: House, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    several = tmp_path / "several"
    shutil.copytree(packed, several)
    shutil.copy(several / "tiny.Q4_1.gguf", several / "tiny.Q8_0.gguf")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with hub_server({"owner/one": packed, "owner/several": several}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        check(house, await imported(house, "gguf-hub", hub_id="owner/one"), packed)
        hub.fetched.clear()
        reason, message = await failed(house, hub_id="owner/several")
        assert (reason, hub.fetched) == ("BASE_MODEL_UNUSABLE", ["LICENSE"] if hub.fetched else [])
        assert "2 GGUF files (tiny.Q4_1.gguf, tiny.Q8_0.gguf): name the one to import" in message
        named = await imported(house, "gguf-hub-file", hub_id="owner/several:tiny.Q4_1.gguf")
        check(house, named, packed)
        assert named.origin == f"owner/several@{COMMIT}:tiny.Q4_1.gguf"
        assert "tiny.Q8_0.gguf" not in hub.fetched
        reason, message = await failed(house, hub_id="owner/several:none.gguf")
        assert (reason, "none.gguf" in message) == ("HUB_MODEL_MISSING", True)


async def test_a_damaged_file_is_refused_by_name(house: House, packed: Path, tmp_path: Path) -> None:
    whole = (packed / "tiny.Q4_1.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    reason, message = await failed(house, files=stored(house, tmp_path))
    assert (reason, "cut.gguf is damaged or cut off" in message) == ("BASE_MODEL_UNUSABLE", True)


async def test_what_does_not_belong_to_a_gguf_file_is_refused_before_a_job(house: House, packed: Path) -> None:
    files = stored(house, packed)
    files.files.add(path="config.json", digest=files.files[0].digest)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.training.ImportModel(pb.ImportModelRequest(parent=PROJECT, model_id="none", files=files))
    assert "config.json are not taken beside the model's file: the GGUF file holds its own" in str(caught.value)
