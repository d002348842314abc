"""Migrations lead to the tables the code has, back, and race safely."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import AsyncEngine

from anneal.kit.settings import ServiceSettings
from anneal.kit.sql import open_engine
from anneal.registry.adapters.sql.migrate import configure, migrate
from anneal.registry.adapters.sql.tables import Base


@pytest.fixture
async def engine(settings: ServiceSettings) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(settings.sql_url("registry"))
    yield engine
    await engine.dispose()


def differences(connection: Connection) -> list[object]:
    options = {"compare_type": True, "version_table": "registry_version", "target_metadata": Base.metadata}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))


def tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names()) - {"sqlite_sequence"}


async def test_the_tables_are_those_of_the_code(engine: AsyncEngine) -> None:
    await migrate(engine)
    async with engine.begin() as connection:
        assert await connection.run_sync(differences) == []
        assert await connection.run_sync(tables) == {*Base.metadata.tables, "registry_version"}


async def test_a_second_time_changes_nothing(engine: AsyncEngine) -> None:
    await migrate(engine)
    await migrate(engine)


async def test_the_way_back_leaves_nothing(engine: AsyncEngine) -> None:
    await migrate(engine)
    async with engine.begin() as connection:
        await connection.run_sync(lambda db: command.downgrade(configure(db), "base"))
        assert await connection.run_sync(tables) == {"registry_version"}
    await migrate(engine)


async def test_several_processes_may_migrate_at_once(settings: ServiceSettings) -> None:
    engines = [open_engine(settings.sql_url("registry")) for _ in range(4)]
    await asyncio.gather(*(migrate(engine) for engine in engines))
    for engine in engines:
        await engine.dispose()
