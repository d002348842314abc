"""One running host for all tests of the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.fixtures.synthesis_house import House, running
from tests.unit.synthesis import documents as pages


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with running(tmp_path_factory.mktemp("house")) as found:
        yield found


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def source(house: House) -> str:
    """The version of a page with a function, a class, an exception and a constant."""
    version = await house.publish_documents([pages.document(pages.COPY, pages.POINT, pages.BROKEN, pages.LIMIT)])
    return version.name
