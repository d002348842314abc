"""A registry of its own for every test, over both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from anneal.kit.settings import ServiceSettings
from anneal.kit.testing import hosted
from anneal.registry.bootstrap import build
from tests.contract.registry.conftest import DATABASES, settings_for
from tests.contract.registry.world import World


@pytest.fixture(params=DATABASES)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> ServiceSettings:
    return settings_for(request, tmp_path)


@pytest.fixture
async def world(settings: ServiceSettings) -> AsyncIterator[World]:
    async with hosted(settings.data_dir, [build], settings=settings) as host:
        yield World.on(host)
