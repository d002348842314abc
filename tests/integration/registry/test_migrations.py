"""Migrations lead to the tables the code has, back, and race safely."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from anneal.kit.rpc import readiness
from anneal.kit.rpc.server import Host
from anneal.kit.settings import ServiceSettings
from anneal.kit.sql import open_engine
from anneal.kit.sql_faults import TablesMissing, TablesNewer
from anneal.registry.adapters.sql.migrate import VERSION_TABLE, check, configure, migrate
from anneal.registry.adapters.sql.tables import Base
from anneal.registry.bootstrap import build
from anneal.registry.migrate import bring_up_to_date
from anneal.registry.settings import RegistryOptions, Settings
from tests.fixtures.postgres import free_port


@pytest.fixture
async def engine(settings: ServiceSettings) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(settings.sql_url("registry"))
    yield engine
    await engine.dispose()


def differences(connection: Connection) -> list[object]:
    options = {"compare_type": True, "version_table": VERSION_TABLE, "target_metadata": Base.metadata}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))


def tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names()) - {"sqlite_sequence"}


async def test_the_tables_are_those_of_the_code(engine: AsyncEngine) -> None:
    await migrate(engine)
    async with engine.begin() as connection:
        assert await connection.run_sync(differences) == []
        assert await connection.run_sync(tables) == {*Base.metadata.tables, VERSION_TABLE}


async def test_what_is_missing_is_seen(engine: AsyncEngine) -> None:
    with pytest.raises(TablesMissing, match="there are none, and this release needs 0001"):
        await check(engine)
    await migrate(engine)
    await check(engine)
    async with engine.begin() as connection:
        await connection.run_sync(lambda db: command.downgrade(configure(db), "-1"))
    with pytest.raises(TablesMissing, match="this release needs 0001"):
        await check(engine)


async def test_tables_of_a_newer_release_are_left_alone(engine: AsyncEngine, settings: ServiceSettings) -> None:
    await migrate(engine)
    async with engine.begin() as connection:
        await connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    for look in (check, migrate):
        with pytest.raises(TablesNewer, match="have revision 9999, which this release does not know: upgrade"):
            await look(engine)
    with pytest.raises(SystemExit, match=r"anneal: the tables of .* have revision 9999"):
        await bring_up_to_date(Settings.model_validate(settings.model_dump()))


async def test_a_table_that_no_migration_makes_again_is_named(engine: AsyncEngine) -> None:
    await migrate(engine)
    async with engine.begin() as connection:
        await connection.execute(text("DROP TABLE outbox"))
    with pytest.raises(TablesMissing, match="are damaged: it has no table outbox, and no migration makes it again"):
        await check(engine)


async def test_the_command_brings_the_registry_and_the_jobs_up_to_date(settings: ServiceSettings) -> None:
    order = Settings.model_validate(settings.model_dump())
    await asyncio.gather(bring_up_to_date(order), bring_up_to_date(order))
    await bring_up_to_date(order)
    for name, table in (("registry", "models"), ("jobs", "job_events")):
        found = open_engine(settings.sql_url(name))
        async with found.connect() as connection:
            assert table in await connection.run_sync(tables)
        await found.dispose()


async def test_the_command_gives_up_on_a_database_that_does_not_answer(settings: ServiceSettings) -> None:
    nowhere = f"postgresql+asyncpg://anneal:a-secret@127.0.0.1:{free_port()}/anneal"
    order = Settings.model_validate({**settings.model_dump(), "database_url": nowhere})
    with pytest.raises(SystemExit, match=r"does not answer: .*; gave up after 1 s") as refused:
        await bring_up_to_date(order, patience_s=1)
    assert "a-secret" not in str(refused.value)


async def test_a_registry_that_may_not_migrate_waits_for_who_may(
    settings: ServiceSettings, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "FIRST_PAUSE_S", 0.05)
    host = Host(settings, [lambda runtime: build(runtime, RegistryOptions(migrates=False))])
    starting = asyncio.create_task(host.start())
    try:
        while "registry" not in host.readiness.who:
            await asyncio.sleep(0.02)
        assert host.readiness.reasons[-1].endswith("run `python -m anneal.registry.migrate`")
        await migrate(engine)
        await asyncio.wait_for(starting, 20)
        assert host.readiness.ready() == (True, "ready")
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await host.stop()


async def test_a_second_time_changes_nothing(engine: AsyncEngine) -> None:
    await migrate(engine)
    await migrate(engine)


async def test_the_way_back_leaves_nothing(engine: AsyncEngine) -> None:
    await migrate(engine)
    async with engine.begin() as connection:
        await connection.run_sync(lambda db: command.downgrade(configure(db), "base"))
        assert await connection.run_sync(tables) == {VERSION_TABLE}
    await migrate(engine)


async def test_several_processes_may_migrate_at_once(settings: ServiceSettings) -> None:
    engines = [open_engine(settings.sql_url("registry")) for _ in range(4)]
    await asyncio.gather(*(migrate(engine) for engine in engines))
    for engine in engines:
        await engine.dispose()
