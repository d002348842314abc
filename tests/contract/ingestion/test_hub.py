"""Datasets from the Hub and to it: the real clients in the job's process, against a server that speaks its protocol."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from anneal.ingestion.settings import IngestionOptions
from anneal.v1 import dataset_pb2
from anneal.v1 import ingestion_service_pb2 as pb
from tests.fixtures.hub import Hub, hub_server
from tests.fixtures.hub_data import SPLITS, SUBSETS, chats, jsonl
from tests.fixtures.hub_datasets import WRITER
from tests.fixtures.ingestion_house import House, refused, running

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

PARENT = "projects/p"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with running(tmp_path_factory.mktemp("hub"), IngestionOptions(hub_owners=("acme",))) as found:
        yield found


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that job processes use, with an empty cache; it speaks the plain protocol of large files, not Xet."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "60")  # the server shares this process with the services
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "60")
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with hub_server() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


def imported(hub_id: str, **other: Any) -> pb.ImportDatasetRequest:
    return pb.ImportDatasetRequest(**{"parent": PARENT, "dataset_id": "rows", "hub_id": hub_id, **other})


async def version(house: House, hub_id: str, **other: Any) -> dataset_pb2.DatasetVersion:
    return await house.version(await house.ingestion.ImportDataset(imported(hub_id, **other)))


def numbers(house: House, version: dataset_pb2.DatasetVersion) -> list[int]:
    return [int(row["messages"][0]["content"][1:]) for row in house.rows(version)]


async def test_every_split_is_kept_apart_and_the_commit_is_named(house: House, hub: Hub) -> None:
    commit = hub.datasets.add("acme/chats", SPLITS)
    made = await version(house, "acme/chats")
    assert dict(made.split_row_counts) == {"test": 5, "train": 100, "validation": 10}
    assert json.loads(made.recipe_json)["hub_id"] == f"acme/chats@{commit}"
    row = house.rows(made)[0]
    assert json.loads(row["origin"])["imported"]["file"].startswith("data/")


async def test_a_subset_is_read_with_its_own_splits_and_its_bad_rows_named(house: House, hub: Hub) -> None:
    hub.datasets.add("acme/subsets", SUBSETS)
    made = await version(house, "acme/subsets", hub_config="de")
    assert (dict(made.split_row_counts), made.quarantined_row_count) == ({"train": 2, "validation": 1}, 1)
    (bad,) = house.rows(made, "quarantined")
    assert (bad["file"], bad["line"], bad["reason"]) == ("de/a.jsonl", 3, "invalid_json")


async def test_a_revision_is_what_it_was(house: House, hub: Hub) -> None:
    commit = hub.datasets.add("acme/moving", {"a.jsonl": jsonl(chats(0, 2))})
    hub.datasets.add("acme/moving", {"a.jsonl": jsonl(chats(5, 9))})
    hub.datasets.add("acme/moving", {"a.jsonl": jsonl(chats(7, 8))}, "next")
    assert numbers(house, await version(house, f"acme/moving@{commit}")) == [0, 1]
    assert numbers(house, await version(house, "acme/moving")) == [5, 6, 7, 8]
    assert numbers(house, await version(house, "acme/moving@next")) == [7]


async def test_what_is_not_there_is_told(house: House, hub: Hub) -> None:
    hub.datasets.add("acme/chats", SPLITS)
    order = imported("acme/chats", hub_split="dev")
    found, message = await house.failed(await house.ingestion.ImportDataset(order))
    assert (found, "no split dev; it has train, validation, test" in message) == ("HUB_SPLIT_UNKNOWN", True)


async def test_a_hub_that_does_not_answer_is_told(house: House, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found, message = await house.failed(await house.ingestion.ImportDataset(imported("acme/chats")))
    assert (found, "acme/chats" in message) == ("HUB_UNREACHABLE", True)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"hub_id": "nobody"}, "hub_id"),
        ({"hub_id": "a/b/c"}, "hub_id"),
        ({"hub_id": "../b"}, "hub_id"),
        ({"hub_id": "a/b", "hub_split": "train["}, "hub_split"),
        ({"hub_id": "a/b", "hub_split": "train[:5"}, "hub_split"),
        ({"blob": "sha256:" + "0" * 64, "hub_split": "train"}, "hub_split"),
        ({"blob": "sha256:" + "0" * 64, "hub_config": "en"}, "hub_config"),
    ],
)
async def test_what_cannot_be_on_the_hub_is_refused_at_once(house: House, fields: dict[str, str], field: str) -> None:
    request = pb.ImportDatasetRequest(parent=PARENT, dataset_id="rows", **fields)  # type: ignore[arg-type]
    code, reason, fields_named = await refused(house.ingestion.ImportDataset(request))
    assert (code, reason, fields_named) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", [field])


# -- to the Hub ------------------------------------------------------------------------------------------------------


def push(name: str, hub_id: str, **other: Any) -> pb.PushDatasetRequest:
    return pb.PushDatasetRequest(parent=PARENT, dataset_version=name, hub_id=hub_id, **other)


async def pushed(house: House, name: str, hub_id: str, **other: Any) -> pb.PushedDataset:
    done = await house.finished(await house.ingestion.PushDataset(push(name, hub_id, **other)))
    assert not done.HasField("error"), done.error
    made = pb.PushedDataset()
    assert done.response.Unpack(made)
    return made


async def test_conversations_go_out_and_come_back_as_they_were(
    house: House, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", WRITER)
    hub.datasets.add("acme/chats", SPLITS)
    made = await version(house, "acme/chats")
    out = await pushed(house, made.name, "acme/out", license="cc-by-4.0")
    repository = hub.datasets.repositories["acme/out"]
    assert out.hub_id == f"acme/out@{repository.branches['main']}"
    assert (out.url, out.row_count, out.file_count) == (f"{hub.url}/datasets/acme/out", 115, 3)
    assert repository.is_private
    card = repository.files()["README.md"].decode()
    for text in ('license: "cc-by-4.0"', "| train | 100 |", made.name, made.digest, "acme/chats@", "115 rows came in"):
        assert text in card
    assert sorted(path for path in repository.files() if path.startswith("data/")) == [
        f"data/{split}-00000-of-00001.parquet" for split in ("test", "train", "validation")
    ]
    again = await version(house, out.hub_id)
    assert dict(again.split_row_counts) == dict(made.split_row_counts)
    assert [row["id"] for row in house.rows(again)] == [row["id"] for row in house.rows(made)]


async def test_documents_go_out_with_their_licence_and_come_back(
    house: House, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", WRITER)
    upload = await house.upload("page.md", "# Größe\n\nText.".encode())
    ingest = pb.IngestDocumentsRequest(parent=PARENT, dataset_id="docs", uploads=[upload], license="CC0-1.0")
    made = await house.version(await house.ingestion.IngestDocuments(ingest))
    out = await pushed(house, f"{PARENT}/datasets/docs/versions/latest", "acme/docs@draft", public=True)
    repository = hub.datasets.repositories["acme/docs"]
    assert out.dataset_version == made.name
    assert (repository.is_private, set(repository.files())) == (False, {".gitattributes"})
    assert 'license: "cc0-1.0"' in repository.files("draft")["README.md"].decode()
    again = await house.version(
        await house.ingestion.ImportDataset(imported(out.hub_id, format="text", dataset_id="texts"))
    )
    assert [row["id"] for row in house.rows(again)] == [row["id"] for row in house.rows(made)]


async def test_a_second_push_replaces_the_first_and_nothing_else(
    house: House, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", WRITER)
    hub.datasets.add("acme/chats", SPLITS)
    both = await version(house, "acme/chats", hub_split="train[:5]+test")
    await pushed(house, both.name, "acme/again")
    one = await version(house, "acme/chats", hub_split="train[:4]")
    await pushed(house, one.name, "acme/again")
    assert sorted(hub.datasets.repositories["acme/again"].files()) == [
        ".gitattributes", "README.md", "data/train-00000-of-00001.parquet"
    ]  # fmt: skip
    hub.datasets.add("acme/hand-made", {"README.md": "# Mine", "rows.csv": "a,b\n"})
    operation = await house.ingestion.PushDataset(push(one.name, "acme/hand-made"))
    found, message = await house.failed(operation)
    assert (found, "README.md" in message) == ("HUB_REPOSITORY_FOREIGN", True)
    assert set(hub.datasets.repositories["acme/hand-made"].files()) == {"README.md", "rows.csv"}


async def test_a_push_that_the_hub_does_not_take_says_why(
    house: House, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.datasets.add("acme/chats", SPLITS)
    made = await version(house, "acme/chats", hub_split="test")
    for token in ("", "hf_reader"):
        monkeypatch.setenv("HF_TOKEN", token)
        found, message = await house.failed(await house.ingestion.PushDataset(push(made.name, "acme/denied")))
        assert (found, "HF_TOKEN" in message) == ("HUB_DENIED", True), message
    monkeypatch.setenv("HF_TOKEN", WRITER)
    order = push(made.name, "acme/denied", license="made-up")
    found, message = await house.failed(await house.ingestion.PushDataset(order))
    assert (found, '"license" must be one of' in message) == ("HUB_CARD_REFUSED", True), message
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found, _ = await house.failed(await house.ingestion.PushDataset(push(made.name, "acme/denied")))
    assert found == "HUB_UNREACHABLE"


async def test_a_push_is_checked_before_it_starts(house: House, hub: Hub) -> None:
    hub.datasets.add("acme/chats", SPLITS)
    made = await version(house, "acme/chats", hub_split="test")
    code, reason, _ = await refused(house.ingestion.PushDataset(push(made.name, "other/rows")))
    assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "HUB_PUSH_NOT_ALLOWED")
    missing = f"{PARENT}/datasets/rows/versions/{'0' * 12}"
    code, reason, _ = await refused(house.ingestion.PushDataset(push(missing, "acme/rows")))
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "DATASET_VERSION_MISSING")
    for other, field in (
        ({"hub_id": "acme"}, "hub_id"),
        ({"license": "All rights reserved"}, "license"),
        ({"dataset_version": "projects/q/datasets/d/versions/latest"}, "dataset_version"),
        ({"parent": "p"}, "parent"),
    ):
        request = push(made.name, "acme/rows")
        for name, value in other.items():
            setattr(request, name, value)
        code, reason, fields = await refused(house.ingestion.PushDataset(request))
        assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
    checked = await house.ingestion.PushDataset(push(made.name, "acme/rows", validate_only=True))
    assert checked.done
    assert "acme/rows" not in hub.datasets.repositories


async def test_the_same_push_twice_is_one(house: House, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", WRITER)
    hub.datasets.add("acme/chats", SPLITS)
    made = await version(house, "acme/chats", hub_split="test")
    request = push(made.name, "acme/twice", request_id=str(uuid.uuid4()))
    first = await house.finished(await house.ingestion.PushDataset(request))
    assert (await house.ingestion.PushDataset(request)).name == first.name
    request.hub_id = "acme/thrice"
    code, reason, _ = await refused(house.ingestion.PushDataset(request))
    assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_the_command_line_pulls_and_pushes(house: House, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", WRITER)
    hub.datasets.add("acme/subsets", SUBSETS)

    async def anneal(*words: str) -> dict[str, Any]:
        command = ["-m", "anneal.cli", "--json", "--address", house.host.address, "--project", "p", "datasets", *words]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        answer: dict[str, Any] = json.loads(out)
        return answer

    made = await anneal("pull", "typed", "hub:acme/subsets", "--subset", "de", "--split", "train_sft[:1]")
    assert made["split_row_counts"] == {"train": "1"}
    out = await anneal("push", "typed", "acme/typed", "--license", "other")
    assert (out["hub_id"].partition("@")[0], out["row_count"]) == ("acme/typed", "1")
    assert 'license: "other"' in hub.datasets.repositories["acme/typed"].files()["README.md"].decode()
