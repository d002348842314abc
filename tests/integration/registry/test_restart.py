"""What was acknowledged is there after a restart, and in the store."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from anneal.kit.errors import RequestIdReused
from anneal.kit.rpc.channels import open_aio_channel
from anneal.kit.rpc.server import Host
from anneal.kit.settings import ServiceSettings
from anneal.kit.sql import open_engine
from anneal.kit.store import Store
from anneal.kit.testing import hosted
from anneal.registry import codec
from anneal.registry.adapters.sql.catalog import Catalog
from anneal.registry.adapters.sql.transactions import RequestKey, Writer
from anneal.registry.bootstrap import build
from anneal.registry.domain.errors import VersionIdTaken
from anneal.registry.domain.resources import Kind, Record
from anneal.v1 import registry_service_pb2 as pb
from anneal.v1.dataset_pb2 import Dataset, DatasetVersion
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub
from tests.contract.registry.world import CONVERSATION, PROJECT, World, new_id

NOW = datetime(2026, 11, 21, tzinfo=UTC)
DAY = timedelta(hours=24)
KEY = RequestKey(project=PROJECT, request_id="1", content="sha256:1")
OTHER = RequestKey(project=PROJECT, request_id="1", content="sha256:2")


def dataset(dataset_id: str = "qa") -> Record:
    return codec.record_of(Kind.DATASET, Dataset(name=f"{PROJECT}/datasets/{dataset_id}", kind=CONVERSATION), NOW)


async def test_everything_is_there_after_a_restart(settings: ServiceSettings) -> None:
    request = pb.CreateDatasetRequest(
        parent=PROJECT, dataset_id="first", dataset=Dataset(name="-", kind=CONVERSATION), request_id=new_id()
    )
    async with hosted(settings.data_dir, [build], settings=settings) as host:
        world = World.on(host)
        first = await world.stub.CreateDataset(request)
        settled = await world.settled()
        await world.evaluate(settled.adapter)
        made = await world.deploy(settled.adapter)
    async with hosted(settings.data_dir, [build], settings=settings) as host:
        world = World.on(host)
        assert await world.stub.GetDeployment(pb.GetDeploymentRequest(name=made.name)) == made
        assert await world.stub.CreateDataset(request) == first
        answer = await world.stub.ResolveDeployment(pb.ResolveDeploymentRequest(name=made.name))
        assert answer.adapter_digest == settled.adapter.digest


async def test_a_change_that_a_crash_kept_from_the_store_goes_there_at_the_next_start(
    settings: ServiceSettings,
) -> None:
    catalog = Catalog(settings.sql_url("registry"))
    record = dataset()

    async def unit(tx: Writer) -> Record:
        return await tx.create(record, codec.note_of(record))

    await catalog.change(unit)  # and here the process dies, before it flushes
    await catalog.close()
    store = Store(settings.store_url(), settings.data_dir / "cache")
    assert not list(store.records())
    async with hosted(settings.data_dir, [build], settings=settings):
        pass
    assert [codec.record_of_note(note) for _, note in store.records()] == [record]


async def test_what_another_registry_notes_meanwhile_is_not_forgotten(settings: ServiceSettings) -> None:
    """SQLite gives the id of the last row again once that row is gone, so an id alone does not name a note."""
    here, there = (Catalog(settings.sql_url("registry")) for _ in range(2))
    kept: list[str] = []

    async def note(catalog: Catalog, record: Record) -> None:
        async def unit(tx: Writer) -> None:
            await tx.create(record, codec.note_of(record))

        await catalog.change(unit)

    async def keep(path: str, _: object) -> None:
        kept.append(path)

    async def keep_while_the_other_goes_on(path: str, value: object) -> None:
        await there.flush(keep)
        await note(there, dataset("second"))

    await note(here, dataset("first"))
    await here.flush(keep_while_the_other_goes_on)
    await there.flush(keep)
    assert [path.split("/")[-2] for path in kept] == ["first", "second"]
    for catalog in (here, there):
        await catalog.close()


async def test_two_digests_with_the_same_first_digits_are_not_one_version(settings: ServiceSettings) -> None:
    catalog = Catalog(settings.sql_url("registry"))
    digests = [f"sha256:{'a' * 12}{last * 52}" for last in "bc"]
    name = f"{PROJECT}/datasets/qa/versions/{'a' * 12}"
    versions = [
        codec.record_of(Kind.DATASET_VERSION, DatasetVersion(name=name, digest=digest, kind=CONVERSATION), NOW)
        for digest in digests
    ]

    async def first(tx: Writer) -> None:
        await tx.create(dataset())
        await tx.create(versions[0])

    async def second(tx: Writer) -> None:
        await tx.create(versions[1])

    await catalog.create(first)
    with pytest.raises(VersionIdTaken):
        await catalog.create(second)
    await catalog.close()


async def test_a_request_that_runs_when_the_server_stops_is_answered(tmp_path: Path) -> None:
    settings = ServiceSettings(data_dir=tmp_path)
    host = Host(settings, [build], local=("registry",))
    await host.start()
    world = World.on(host)
    await world.dataset_version()
    engine = open_engine(settings.sql_url("registry"))
    given = Dataset(name="-", kind=CONVERSATION)
    request = pb.CreateDatasetRequest(parent=PROJECT, dataset_id="late", dataset=given)
    channel = open_aio_channel(host.address)
    stub: Any = RegistryServiceStub(channel)
    async with engine.begin():  # SQLite's one write lock is taken: the request waits for it
        answer = asyncio.ensure_future(stub.CreateDataset(request))
        await asyncio.sleep(0.2)
        stopping = asyncio.ensure_future(host.stop())
        await asyncio.sleep(0.2)
    assert (await answer).name == f"{PROJECT}/datasets/late"
    await stopping
    await channel.close()
    await engine.dispose()


async def test_a_failed_unit_leaves_nothing(settings: ServiceSettings) -> None:
    catalog = Catalog(settings.sql_url("registry"))

    async def unit(tx: Writer) -> None:
        await tx.create(dataset(), codec.note_of(dataset()))
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError, match="the power went"):
        await catalog.change(unit)
    kept: list[str] = []

    async def keep(path: str, _: object) -> None:
        kept.append(path)

    await catalog.flush(keep)
    async with catalog.read() as tx:
        assert await tx.is_empty()
    assert kept == []
    await catalog.close()


@pytest.mark.parametrize(
    ("key", "later", "answer"),
    [
        (KEY, DAY, dataset().name),
        (OTHER, DAY, "refused"),
        (KEY, DAY + timedelta(microseconds=1), "new"),
        (OTHER, DAY + timedelta(microseconds=1), "new"),
    ],
)
async def test_a_request_id_is_remembered_for_a_day(
    settings: ServiceSettings, key: RequestKey, later: timedelta, answer: str
) -> None:
    catalog = Catalog(settings.sql_url("registry"))

    async def remember(tx: Writer) -> None:
        await tx.remember(KEY, dataset(), NOW)

    async def ask(tx: Writer) -> str:
        try:
            found = await tx.first_answer(key, NOW + later)
        except RequestIdReused:
            return "refused"
        if found is not None:
            return found.name
        await tx.remember(key, dataset("other"), NOW + later)  # the old answer does not stand in the way
        return "new"

    await catalog.change(remember)
    assert await catalog.change(ask) == answer
    await catalog.close()
