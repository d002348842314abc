"""A base model that a client has uploaded: put together from its digests, checked as every other source is."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest
from safetensors.torch import load_file, save_file

from anneal.kit.digests import digest_of_bytes
from anneal.v1 import model_pb2
from anneal.v1 import training_service_pb2 as pb
from tests.fixtures.tiny_model import write_base
from tests.fixtures.training_house import PROJECT, House, details, refusal

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(180)]

ABSENT = digest_of_bytes(b"never stored")


def stored(house: House, folder: Path, **digests: str) -> pb.ModelFiles:
    """A folder's files in the store, as an upload leaves them; `digests` name others by `name=digest`."""
    files = pb.ModelFiles(origin=folder.name)
    for path in sorted(folder.iterdir()):
        digest = house.host.store.put_file(path) if path.stat().st_size else digest_of_bytes(b"")
        files.files.add(path=path.name, digest=digests.get(path.name, digest))
    return files


def order(files: pb.ModelFiles, model_id: str, **more: Any) -> pb.ImportModelRequest:
    return pb.ImportModelRequest(parent=PROJECT, model_id=model_id, files=files, **more)


async def refused(house: House, request: pb.ImportModelRequest) -> tuple[str, str, list[str], str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.training.ImportModel(request)
    return *refusal(caught.value), caught.value.details() or ""


async def failed(house: House, request: pb.ImportModelRequest) -> tuple[str, str]:
    done = await house.finished(await house.training.ImportModel(request))
    assert done.HasField("error")
    return details(done.error)[0], done.error.message


async def test_uploaded_files_are_the_model_that_the_folder_is(
    house: House, base: model_pb2.Model, tmp_path: Path
) -> None:
    folder = write_base(tmp_path / "base")
    made = await house.model(await house.training.ImportModel(order(stored(house, folder), "uploaded")))
    assert made.digest == base.digest, "the same files, the same model, wherever they come from"
    assert (made.architecture, made.context_length, made.origin) == ("LlamaForCausalLM", 128, "base")
    assert made.chat_template_digest == base.chat_template_digest


async def test_an_empty_file_needs_no_upload(house: House, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "with-empty")
    (folder / "LICENSE").write_bytes(b"")
    made = await house.model(await house.training.ImportModel(order(stored(house, folder), "with-empty")))
    assert made.digest == house.host.store.put_tree(folder)


async def test_the_same_request_twice_is_one_job_and_other_files_under_it_are_refused(
    house: House, tmp_path: Path
) -> None:
    files = stored(house, write_base(tmp_path / "base"))
    request = order(files, "twice", request_id=str(uuid.uuid4()))
    first = await house.training.ImportModel(request)
    assert (await house.training.ImportModel(request)).name == first.name
    request.files.files[0].digest = ABSENT
    assert (await refused(house, request))[:2] == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    await house.finished(first)


async def test_other_files_under_the_same_id_are_refused(house: House, base: model_pb2.Model, tmp_path: Path) -> None:
    files = stored(house, write_base(tmp_path / "other", seed=3))
    reason, message = await failed(house, order(files, "base"))
    assert (reason, "choose another id" in message) == ("MODEL_EXISTS", True)


async def test_files_that_were_not_uploaded_are_named(house: House, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    files = stored(house, folder, **{"model.safetensors": ABSENT})
    code, reason, _, message = await refused(house, order(files, "absent"))
    assert (code, reason) == ("NOT_FOUND", "BLOB_MISSING")
    assert "nothing of model.safetensors" in message
    assert (await refused(house, order(files, "absent", validate_only=True)))[1] == "BLOB_MISSING"


async def test_what_cannot_be_a_model_is_refused_with_every_field(house: House) -> None:
    digest = house.host.store.put_bytes(b"{}")

    async def fields(*files: tuple[str, str], origin: str = "") -> tuple[str, str, list[str]]:
        made = pb.ModelFiles(files=[pb.ModelFile(path=p, digest=d) for p, d in files], origin=origin)
        return (await refused(house, order(made, "m")))[:3]

    good = (("config.json", digest), ("model.safetensors", digest))
    invalid = ("INVALID_ARGUMENT", "INVALID_REQUEST")
    for name in ("../x.json", "/etc/x.json", "a/b.json", "a\\b.json", "x.bin", "run.py", "", ".."):
        assert await fields(*good, (name, digest)) == (*invalid, ["files.files[2].path"])
    assert await fields(*good, good[0]) == (*invalid, ["files.files[2].path"])
    assert await fields(*good, ("a.json", "sha256:no")) == (*invalid, ["files.files[2].digest"])
    assert await fields(good[0]) == (*invalid, ["files.files"])
    assert await fields(good[1]) == (*invalid, ["files.files"])
    assert await fields() == (*invalid, ["files.files"])
    assert await fields(*good, origin="x" * 257) == (*invalid, ["files.origin"])
    assert await fields(*good, *((f"{n}.json", digest) for n in range(999))) == (*invalid, ["files.files"])
    assert (await fields(("run.py", "x"), ("../a", digest)))[2] == [
        "files.files[0].path",
        "files.files[0].digest",
        "files.files[1].path",
        "files.files",
    ]


async def test_a_damaged_file_is_named(house: House, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    reason, message = await failed(house, order(stored(house, folder), "cut"))
    assert (reason, "model.safetensors is damaged" in message) == ("BASE_MODEL_UNUSABLE", True)

    folder = write_base(tmp_path / "json")
    (folder / "config.json").write_text("{")
    reason, message = await failed(house, order(stored(house, folder), "json"))
    assert (reason, "config.json is not JSON" in message) == ("BASE_MODEL_UNUSABLE", True)

    folder = write_base(tmp_path / "lacking")
    weights = folder / "model.safetensors"
    held = load_file(weights)
    del held["model.norm.weight"]
    save_file(held, weights, metadata={"format": "pt"})
    reason, message = await failed(house, order(stored(house, folder), "lacking"))
    assert (reason, "lacks 1 weights, such as model.norm.weight" in message) == ("BASE_MODEL_UNUSABLE", True)


async def test_bytes_that_the_store_has_damaged_are_refused(house: House, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "rotten", seed=5)
    files = stored(house, folder)
    digest = next(file.digest for file in files.files if file.path == "model.safetensors")[7:]
    blob = Path(house.host.store.url) / "blobs" / digest[:2] / digest
    blob.chmod(0o644)
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    assert (await failed(house, order(files, "rotten")))[0] == "BLOB_DAMAGED"
