"""A process whose parts are not there waits, says why once, and is not ready; when they come it goes on."""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import SecretStr

from anneal.kit.errors import NotReady
from anneal.kit.options import MetricsOptions, StoreOptions
from anneal.kit.rpc import probes, readiness, server
from anneal.kit.rpc.channels import open_aio_channel
from anneal.kit.rpc.readiness import Readiness
from anneal.kit.rpc.server import Host
from anneal.kit.runtime import Runtime, Service
from anneal.kit.settings import Misconfigured, ServiceSettings
from tests.fixtures.postgres import PostgresServer, free_port

GRPC_SERVICE = "anneal.v1.RegistryService"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(readiness, "LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr(server, "DATABASE_EVERY_S", 0.1)
    monkeypatch.setattr(server, "STORE_EVERY_S", 0.2)
    monkeypatch.setattr(probes, "SUSPECT_PAUSE_S", 0.05)


def ask(host: Host, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{host.metrics_port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode().strip()


async def probe(host: Host, path: str) -> tuple[int, str]:
    return await asyncio.to_thread(ask, host, path)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def is_ready(host: Host) -> bool:
    return (await probe(host, "/readyz"))[0] == 200


def settings_of(folder: Path, **given: object) -> ServiceSettings:
    return ServiceSettings(data_dir=folder, metrics=MetricsOptions(port=0), **given)  # type: ignore[arg-type]


async def health(host: Host) -> int:
    async with open_aio_channel(host.address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        return int(answer.status)


async def test_a_service_that_is_not_ready_keeps_its_process_waiting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = asyncio.Event()

    async def start() -> None:
        if not there.is_set():
            raise NotReady("the moon is not up yet")

    def build(runtime: Runtime) -> Service:
        return Service(name="tides", add=lambda _server: None, grpc_services=(GRPC_SERVICE,), start=start)

    host = Host(settings_of(tmp_path), [build])
    starting = asyncio.create_task(host.start())
    try:
        await until(lambda: _true(host.metrics_port is not None and "tides" in host.readiness.who))
        assert await probe(host, "/livez") == (200, "alive")
        assert await probe(host, "/readyz") == (503, "starting; the moon is not up yet")
        assert await health(host) == health_pb2.HealthCheckResponse.NOT_SERVING
        await asyncio.sleep(0.5)
        there.set()
        await asyncio.wait_for(starting, 10)
        assert await probe(host, "/readyz") == (200, "ready")
        assert await health(host) == health_pb2.HealthCheckResponse.SERVING
        await host.runtime.report_health(GRPC_SERVICE, False)
        assert await probe(host, "/readyz") == (503, f"{GRPC_SERVICE} does not serve")
        await host.runtime.report_health(GRPC_SERVICE, True)
        assert await is_ready(host)
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await host.stop()
    assert capsys.readouterr().out.count("the moon is not up yet") == 1


async def _true(value: object) -> bool:
    return bool(value)


@pytest.mark.postgres
async def test_a_database_that_comes_late_is_waited_for(
    tmp_path: Path, postgres_server: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = postgres_server.create_database()
    late = f"{url}_late".replace("anneal@", "anneal:a-secret@")
    host = Host(settings_of(tmp_path, database_url=SecretStr(late)), [])
    starting = asyncio.create_task(host.start())
    try:
        await until(lambda: _true("database" in host.readiness.who))
        status, line = await probe(host, "/readyz")
        assert status == 503
        assert "does not exist" in line
        assert "ANNEAL_DATABASE_URL" in line
        assert (await probe(host, "/livez"))[0] == 200
        await asyncio.to_thread(postgres_server.create_named, late.rsplit("/", 1)[1])
        await asyncio.wait_for(starting, 10)
        assert await is_ready(host)
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await host.stop()
    said = capsys.readouterr().out
    assert said.count("does not exist") == 1
    assert "a-secret" not in said


async def test_a_start_that_waits_can_be_stopped(tmp_path: Path) -> None:
    nowhere = f"postgresql+asyncpg://anneal:pw@127.0.0.1:{free_port()}/anneal"
    host = Host(settings_of(tmp_path, database_url=SecretStr(nowhere)), [])
    starting = asyncio.create_task(host.start())
    await until(lambda: _true("database" in host.readiness.who))
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    with pytest.raises(OSError, match="refused"):
        await probe(host, "/livez")


@pytest.mark.postgres
async def test_a_database_that_goes_away_takes_the_process_out_of_service(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    url = postgres_server.create_database()
    name = url.rsplit("/", 1)[1]
    host = Host(settings_of(tmp_path, database_url=SecretStr(url)), [])
    await host.start()
    try:
        assert await is_ready(host)
        await asyncio.to_thread(postgres_server.run_sql, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"

        async def is_out() -> bool:
            await asyncio.to_thread(postgres_server.run_sql, kill)
            return not await is_ready(host)

        await until(is_out)
        await asyncio.to_thread(postgres_server.run_sql, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await until(lambda: is_ready(host))
    finally:
        await host.stop()


async def test_a_store_that_does_not_answer_is_waited_for(tmp_path: Path) -> None:
    options = {
        "endpoint": f"http://127.0.0.1:{free_port()}",
        "access_key_id": "a",
        "secret_access_key": "b",
        "region": "us-east-1",
        "client_options": {"allow_http": True},
        "retry_config": {"max_retries": 1},
    }
    store = StoreOptions(url="s3://bucket", options=options)
    host = Host(settings_of(tmp_path, store=store), [])
    starting = asyncio.create_task(host.start())
    try:
        await until(lambda: _true("store" in host.readiness.who), 60)
        status, line = await probe(host, "/readyz")
        assert (status, "the store s3://bucket does not answer" in line) == (503, True)
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await host.stop()


@pytest.mark.parametrize("url", ["no url", "postgresql+nothing://u:a-secret@h/d", "://"])
async def test_a_database_url_that_is_none_ends_the_start(tmp_path: Path, url: str) -> None:
    with pytest.raises(Misconfigured, match="ANNEAL_DATABASE_URL is not of the form") as refused:
        await Host(settings_of(tmp_path, database_url=SecretStr(url)), []).start()
    assert "a-secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("gopher://x", "ANNEAL_STORE__URL: gopher:// is no kind of object store"),
        ("s3://bucket", "ANNEAL_STORE__OPTIONS: S3 has no option no_such_option"),
    ],
)
async def test_a_store_that_cannot_be_meant_ends_the_start(tmp_path: Path, url: str, text: str) -> None:
    store = StoreOptions(url=url, options={"no_such_option": "x"})
    with pytest.raises(Misconfigured, match=text):
        await Host(settings_of(tmp_path, store=store), []).start()


async def test_a_loop_that_stands_still_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "STUCK_S", 0.3)
    vitals = Readiness()
    vitals.begin()
    await asyncio.sleep(0.05)
    assert vitals.live() == (True, "alive")
    seen: list[tuple[bool, str]] = []
    watcher = threading.Timer(0.6, lambda: seen.append(vitals.live()))
    watcher.start()
    time.sleep(0.8)
    assert [alive for alive, _ in seen] == [False]
    await vitals.end()
