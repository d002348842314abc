"""A process whose parts are not there waits, says why once, and is not ready; when they come it goes on."""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import SecretStr
from sqlalchemy import text

from anneal.kit.errors import NotReady
from anneal.kit.jobs import tables
from anneal.kit.options import MetricsOptions, StoreOptions
from anneal.kit.rpc import probes, readiness, server
from anneal.kit.rpc.channels import open_aio_channel
from anneal.kit.rpc.readiness import Readiness
from anneal.kit.rpc.server import Build, Host
from anneal.kit.runtime import Runtime, Service
from anneal.kit.settings import Misconfigured, ServiceSettings
from anneal.kit.sql import open_engine
from anneal.registry.bootstrap import build as build_registry
from anneal.v1.registry_service_pb2 import ListModelsRequest
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub
from tests.fixtures import faulty_s3
from tests.fixtures.faulty_s3 import Fault, FaultyS3
from tests.fixtures.postgres import PostgresServer, free_port
from tests.fixtures.relay import Relay
from tests.fixtures.s3 import Bucket

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
    ("url", "said"),
    [
        ("gopher://x", "ANNEAL_STORE__URL: gopher:// is no kind of object store"),
        ("s3://bucket", "ANNEAL_STORE__OPTIONS: S3 has no option no_such_option"),
    ],
)
async def test_a_store_that_cannot_be_meant_ends_the_start(tmp_path: Path, url: str, said: str) -> None:
    store = StoreOptions(url=url, options={"no_such_option": "x"})
    with pytest.raises(Misconfigured, match=said):
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


def lines_of(text: str) -> list[str]:
    """What was logged of outages, without the time."""
    return [line.split("]", 1)[1].split("[outages]")[0].strip() for line in text.splitlines() if "[outages]" in line]


@pytest.mark.s3
async def test_a_bucket_that_goes_and_comes_back(tmp_path: Path, s3_bucket: Bucket) -> None:
    async with started(tmp_path, store=StoreOptions(url=s3_bucket.url, options=s3_bucket.options)) as host:
        assert await is_ready(host)
        with urllib.request.urlopen(
            urllib.request.Request(f"{s3_bucket.endpoint}/{s3_bucket.name}", method="DELETE"), timeout=10
        ):
            pass
        await until(lambda: says(host, "the bucket of the store s3://"))
        assert "create it, or correct ANNEAL_STORE__URL" in (await probe(host, "/readyz"))[1]
        faulty_s3.make_bucket(s3_bucket)
        await until(lambda: is_ready(host))


@pytest.mark.s3
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (faulty_s3.READ_ONLY, "may not write there"),
        (Fault(403, "AccessDenied", ("GET",)), "there: allow reading, writing, listing and deleting"),
        (Fault(403, "AccessDenied", ("POST",)), "may not delete there"),
        (faulty_s3.SKEWED, "set the clock of this machine"),
        (faulty_s3.WRONG_SECRET, "is wrong, or the clock of this machine is far off"),
        (faulty_s3.UNKNOWN_KEY, "are not accepted"),
        (faulty_s3.BROKEN, "failed: InternalError"),
        (faulty_s3.ELSEWHERE, "is in another region"),
    ],
    ids=str,
)
async def test_a_store_that_does_not_work_is_not_ready_and_says_which(
    tmp_path: Path, s3_bucket: Bucket, fault: Fault, said: str
) -> None:
    with FaultyS3(s3_bucket).running() as s3:
        s3.fault = fault
        host = Host(settings_of(tmp_path, store=StoreOptions(url=s3.bucket.url, options=s3.options)), [])
        starting = asyncio.create_task(host.start())
        try:
            await until(lambda: says(host, said))
            s3.fault = None
            await asyncio.wait_for(starting, 20)
            assert await is_ready(host)
            s3.fault = fault  # withdrawn while it runs
            await until(lambda: says(host, said))
            s3.fault = None
            await until(lambda: is_ready(host))
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await host.stop()


@pytest.mark.s3
@pytest.mark.parametrize("fault", [faulty_s3.FULL, faulty_s3.THROTTLED], ids=str)
async def test_a_store_that_can_be_read_stays_ready(tmp_path: Path, s3_bucket: Bucket, fault: Fault) -> None:
    with FaultyS3(s3_bucket).running() as s3:
        async with started(tmp_path, store=StoreOptions(url=s3.bucket.url, options=s3.options)) as host:
            s3.fault, asked = fault, s3.asked
            await until(lambda: _true(s3.asked > asked + 2))
            assert await is_ready(host)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_tables_that_go_and_come_back(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """A call meets it: the tables are looked at again, not only whether the database answers."""
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else ""
    async with started(tmp_path, [build_registry], database_url=SecretStr(url)) as host:
        other = open_engine(host.settings.sql_url("registry"))
        async with other.begin() as db:
            await db.execute(text("ALTER TABLE models RENAME TO elsewhere"))
        registry: Any = RegistryServiceStub(open_aio_channel(host.address))
        with pytest.raises(grpc.aio.AioRpcError, match="are not of this release"):
            await registry.ListModels(ListModelsRequest(parent="projects/p"))
        await until(lambda: says(host, "it has no table models"))
        async with other.begin() as db:
            await db.execute(text("ALTER TABLE elsewhere RENAME TO models"))
        await until(lambda: is_ready(host))
        await registry.ListModels(ListModelsRequest(parent="projects/p"))
        await other.dispose()
    assert lines_of(capsys.readouterr().out) == ["away", "back"]


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_job_tables_of_a_newer_release(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else ""
    given = settings_of(tmp_path, database_url=SecretStr(url))
    engine = open_engine(given.sql_url("jobs"))
    await tables.prepare(engine)
    async with engine.begin() as db:
        await db.execute(text("UPDATE jobs_revision SET revision = 99"))
    host = Host(given, [])
    starting = asyncio.create_task(host.start())
    try:
        await until(lambda: says(host, "have revision 99, and this release knows 1: upgrade this service"))
        async with engine.begin() as db:
            await db.execute(text("UPDATE jobs_revision SET revision = 1"))
        await asyncio.wait_for(starting, 20)
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await host.stop()
        await engine.dispose()


@pytest.mark.postgres
async def test_an_account_that_may_not_create_tables(tmp_path: Path, postgres_server: PostgresServer) -> None:
    """It is not ready while they are missing, with one line; where they are there, it is enough."""
    url = postgres_server.create_database()
    name = url.rsplit("/", 1)[1]
    for statement in (f'CREATE ROLE "{name}" LOGIN', f'GRANT CONNECT ON DATABASE "{name}" TO "{name}"'):
        postgres_server.run_sql(statement)
    postgres_server.run_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC", name)
    host = Host(settings_of(tmp_path, database_url=SecretStr(url.replace("anneal@", f"{name}@"))), [])
    starting = asyncio.create_task(host.start())
    owner = open_engine(url)
    try:
        await until(lambda: says(host, "refuses this account: permission denied for schema public"))
        await tables.prepare(owner)
        postgres_server.run_sql(
            f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "{name}"', name
        )
        await asyncio.wait_for(starting, 20)
        assert await is_ready(host)
        postgres_server.run_sql(f'REVOKE ALL ON ALL TABLES IN SCHEMA public FROM "{name}"', name)
        await until(lambda: says(host, "refuses this account: permission denied for table"))
        postgres_server.run_sql(
            f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "{name}"', name
        )
        await until(lambda: is_ready(host))
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await host.stop()
        await owner.dispose()


@pytest.mark.postgres
async def test_a_database_that_is_away_for_a_while_is_two_lines(
    tmp_path: Path, postgres_server: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Supervision of jobs, the probe and calls all meet it; nobody writes a traceback."""
    relay = Relay(postgres_server.port)
    url = postgres_server.create_database().replace(f":{postgres_server.port}/", f":{relay.port}/")
    async with started(tmp_path, [build_registry], database_url=SecretStr(url)) as host:
        registry: Any = RegistryServiceStub(open_aio_channel(host.address))
        with relay.down():
            await until(lambda: says(host, "does not answer"))
            for _ in range(5):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await registry.ListModels(ListModelsRequest(parent="projects/p"))
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            await asyncio.sleep(3)  # rounds of supervision, each of which fails
        await until(lambda: is_ready(host))
        await asyncio.sleep(1.5)
        await registry.ListModels(ListModelsRequest(parent="projects/p"))
    logged = capsys.readouterr()
    assert lines_of(logged.out) == ["away", "back"]
    assert "Traceback" not in logged.out + logged.err
    assert "supervision failed" not in logged.out


async def says(host: Host, what: str) -> bool:
    """Whether the process is not ready for this reason, in one line."""
    if host.metrics_port is None:
        return False
    status, line = await probe(host, "/readyz")
    assert "\n" not in line
    return status == 503 and what in line


@asynccontextmanager
async def started(folder: Path, builds: Sequence[Build] = (), **given: object) -> AsyncIterator[Host]:
    """A running host."""
    host = Host(settings_of(folder, **given), builds)
    await host.start()
    try:
        yield host
    finally:
        await host.stop()
