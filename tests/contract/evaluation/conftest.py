from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from anneal.evaluation.bootstrap import build as build_evaluation
from anneal.kit.rpc.channels import open_aio_channel
from anneal.kit.testing import hosted
from anneal.registry.bootstrap import build as build_registry
from tests.contract.evaluation.fake_serving import FakeServing
from tests.contract.evaluation.world import World


@pytest.fixture
async def serving() -> FakeServing:
    return FakeServing()  # type: ignore[abstract]  # what it leaves out answers UNIMPLEMENTED


@pytest.fixture
async def world(tmp_path: Path, serving: FakeServing) -> AsyncIterator[World]:
    async with (
        hosted(tmp_path, [build_registry, build_evaluation, serving.build]) as host,
        open_aio_channel(host.address) as channel,
    ):
        found = World(host, channel)
        await found.fill()
        yield found
