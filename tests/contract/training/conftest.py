"""One running host for all tests of the contract; nothing in them needs Ray."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from anneal.ingestion.bootstrap import build as build_ingestion
from anneal.v1 import dataset_pb2, model_pb2
from tests.fixtures.tiny_model import write_base
from tests.fixtures.training_house import House, running, small_rows


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    uris = ("s3://", "az://")
    async with running(tmp_path_factory.mktemp("house"), others=[build_ingestion], model_uris=uris) as found:
        yield found


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def base(house: House) -> model_pb2.Model:
    return await house.import_base(write_base(house.models / "base"))


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def rows(house: House) -> dataset_pb2.DatasetVersion:
    return await house.dataset(small_rows())
