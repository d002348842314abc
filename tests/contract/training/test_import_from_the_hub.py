"""A base model of the Hub: the real client in the job's process, against a server that speaks the Hub's protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anneal.v1 import model_pb2
from anneal.v1 import training_service_pb2 as pb
from tests.fixtures.hub import COMMIT, Hub, hub_server
from tests.fixtures.tiny_model import write_base
from tests.fixtures.training_house import PROJECT, House, details

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(180)]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that job processes use, with an empty cache."""
    folder = write_base(tmp_path / "tiny")
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    (folder / "modeling_tiny.py").write_text("raise SystemExit")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with hub_server({"owner/tiny": folder}, gated=frozenset({"owner/gated"})) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


async def imported(house: House, hub_id: str, model_id: str) -> Any:
    request = pb.ImportModelRequest(parent=PROJECT, model_id=model_id, hub_id=hub_id)
    return await house.finished(await house.training.ImportModel(request))


async def failed(house: House, hub_id: str) -> tuple[str, str]:
    done = await imported(house, hub_id, "none")
    assert done.HasField("error")
    return details(done.error)[0], done.error.message


async def test_a_model_of_the_hub_is_fetched_checked_and_named_by_its_commit(
    house: House, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = await imported(house, "owner/tiny", "from-hub")
    assert not done.HasField("error"), done.error
    model = model_pb2.Model()
    assert done.response.Unpack(model)
    assert (model.architecture, model.context_length) == ("LlamaForCausalLM", 128)
    assert model.origin == f"owner/tiny@{COMMIT}"
    assert model.chat_template_digest.startswith("sha256:")
    held = {path.name for path in house.host.store.materialize(model.digest).iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= held
    assert set(hub.fetched) == held  # neither the pickle nor the code came over the wire

    # What the machine has is not fetched again, and is enough where there is no network.
    hub.fetched.clear()
    assert not (await imported(house, "owner/tiny@main", "from-hub")).HasField("error")
    assert hub.fetched == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    again = model_pb2.Model()
    assert (await imported(house, "owner/tiny", "from-hub")).response.Unpack(again)
    assert again == model


async def test_what_the_hub_does_not_give_is_told_apart(
    house: House, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason, message = await failed(house, "owner/nothing")
    assert (reason, "no model owner/nothing" in message) == ("HUB_MODEL_MISSING", True)
    reason, message = await failed(house, "owner/tiny@v9")
    assert (reason, "no revision v9 of owner/tiny" in message) == ("HUB_MODEL_MISSING", True)
    reason, message = await failed(house, "owner/gated")
    assert (reason, "ask for access" in message) == ("HUB_MODEL_GATED", True)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    reason, message = await failed(house, "owner/tiny")
    assert (reason, "owner/tiny" in message) == ("HUB_UNREACHABLE", True)
