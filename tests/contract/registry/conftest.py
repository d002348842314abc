"""Every contract test of the registry runs over both databases: one server for each, emptied before every test."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from anneal.kit.settings import ServiceSettings
from anneal.kit.sql import open_engine
from anneal.kit.testing import hosted
from anneal.registry.adapters.sql.tables import Base
from anneal.registry.bootstrap import build
from tests.contract.registry.world import World

DATABASES = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


def settings_for(request: pytest.FixtureRequest, folder: Path) -> ServiceSettings:
    """Settings with an empty database of the kind the fixture's parameter names."""
    url = request.getfixturevalue("new_postgres_url")() if request.param == "postgres" else ""
    return ServiceSettings(data_dir=folder, database_url=SecretStr(url))


@pytest_asyncio.fixture(scope="package", loop_scope="session", params=DATABASES)
async def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[World, AsyncEngine]]:
    settings = settings_for(request, tmp_path_factory.mktemp("registry"))
    async with hosted(settings.data_dir, [build], settings=settings) as host:
        engine = open_engine(settings.sql_url("registry"))
        yield World.on(host), engine
        await engine.dispose()


@pytest_asyncio.fixture(loop_scope="session")
async def world(server: tuple[World, AsyncEngine]) -> World:
    """An empty registry; what other tests left in the store by digest does no harm."""
    world, engine = server
    async with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            await connection.execute(table.delete())
    shutil.rmtree(Path(world.store.url) / "records", ignore_errors=True)
    return world
