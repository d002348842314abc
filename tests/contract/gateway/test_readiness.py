"""A gateway in a process of its own is ready when the registry has answered to it, and stays so."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from anneal.gateway.bootstrap import GatewayProcess
from anneal.gateway.settings import Settings
from anneal.kit.options import JobOptions
from anneal.kit.rpc import readiness
from anneal.kit.settings import ServiceSettings
from anneal.kit.testing import hosted
from anneal.registry.bootstrap import build as build_registry
from tests.fixtures.relay import Relay


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(readiness, "LONGEST_PAUSE_S", 0.1)


async def until_said(process: GatewayProcess, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in process.readiness.ready()[1]:
        assert time.monotonic() < deadline, process.readiness.ready()
        await asyncio.sleep(0.05)


async def test_the_registry_is_waited_for_at_the_start_only(tmp_path: Path) -> None:
    async with hosted(tmp_path, [build_registry]) as host:
        relay = Relay(host.port)
        process = GatewayProcess(Settings(data_dir=tmp_path, addresses={"registry": relay.address, "serving": "x:1"}))
        try:
            with relay.down():
                await process.start()
                await until_said(process, "the registry cannot be asked: another service does not answer")
            await until_said(process, "ready")
            with relay.down():
                await asyncio.sleep(0.3)
                assert process.readiness.ready() == (True, "ready")
        finally:
            await process.stop()
            relay.close()


async def test_a_token_that_the_registry_does_not_know_is_named(tmp_path: Path) -> None:
    settings = ServiceSettings(
        data_dir=tmp_path, tokens=(SecretStr("right"),), jobs=JobOptions(lease_s=10, backoff_s=0.05)
    )
    async with hosted(tmp_path, [build_registry], settings=settings) as host:
        addresses = {"registry": host.address, "serving": host.address}
        process = GatewayProcess(Settings(data_dir=tmp_path, addresses=addresses, tokens=(SecretStr("wrong"),)))
        try:
            await process.start()
            await until_said(process, "does not accept the token of this one: give both one of ANNEAL_TOKENS in common")
        finally:
            await process.stop()
