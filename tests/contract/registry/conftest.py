"""Every contract test of the registry runs over both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from anneal.kit.settings import ServiceSettings
from anneal.kit.testing import hosted
from anneal.registry.bootstrap import build
from tests.contract.registry.world import World


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> ServiceSettings:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    return ServiceSettings(data_dir=tmp_path, database_url=SecretStr(url))


@pytest.fixture
async def world(settings: ServiceSettings) -> AsyncIterator[World]:
    async with hosted(settings.data_dir, [build], settings=settings) as host:
        yield World.on(host)
