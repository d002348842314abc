"""gRPC over TLS: who is let in, certificates that are renewed, and jobs that speak it too."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from anneal.kit.options import JobOptions, TlsOptions
from anneal.kit.rpc.channels import open_aio_channel, open_channel
from anneal.kit.rpc.server import Host
from anneal.kit.rpc.tls import server_credentials
from anneal.kit.settings import Misconfigured, ServiceSettings
from anneal.kit.testing import hosted
from tests.contract.kit.test_jobs import PROJECT, build, order
from tests.fixtures.certificates import Authority

SERVING = health_pb2.HealthCheckResponse.SERVING


class Files:
    """An authority's files in a folder, and options made of them."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority()
        self.folder = folder
        self.cert, self.key = self.authority.sign().write(folder)
        self.ca = folder / "ca.crt"
        self.ca.write_bytes(self.authority.pem)

    def server(self, *, mutual: bool = False) -> TlsOptions:
        return TlsOptions(cert=self.cert, key=self.key, ca=self.ca, mutual=mutual)

    def client(self) -> TlsOptions:
        return TlsOptions(ca=self.ca)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "tls")


@asynccontextmanager
async def serving(folder: Path, tls: TlsOptions) -> AsyncIterator[Host]:
    settings = ServiceSettings(data_dir=folder / "data", tls=tls, jobs=JobOptions(lease_s=10, backoff_s=0.05))
    async with hosted(folder, [build], settings=settings) as host:
        yield host


async def health(address: str, tls: TlsOptions) -> int:
    async with open_aio_channel(address, tls=tls) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        return answer.status


async def test_only_who_trusts_the_authority_gets_through(files: Files, tmp_path: Path) -> None:
    other = tmp_path / "other.crt"
    other.write_bytes(Authority("another").pem)
    async with serving(tmp_path, files.server()) as host:
        assert await health(host.address, files.client()) == SERVING
        for stranger in (TlsOptions(ca=other), TlsOptions()):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await health(host.address, stranger)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        with open_channel(host.address, tls=files.client()) as channel:
            call = health_pb2_grpc.HealthStub(channel).Check
            assert (await asyncio.to_thread(call, health_pb2.HealthCheckRequest(), timeout=10)).status == SERVING


async def test_mutual_tls_asks_clients_for_a_certificate(files: Files, tmp_path: Path) -> None:
    cert, key = files.authority.sign("a client").write(tmp_path, "client")
    forged_cert, forged_key = Authority("another").sign().write(tmp_path, "forged")
    async with serving(tmp_path, files.server(mutual=True)) as host:
        assert await health(host.address, TlsOptions(ca=files.ca, cert=cert, key=key)) == SERVING
        for stranger in (files.client(), TlsOptions(ca=files.ca, cert=forged_cert, key=forged_key)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await health(host.address, stranger)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_renewed_certificate_is_shown_without_a_restart(files: Files, tmp_path: Path) -> None:
    async with serving(tmp_path, files.server()) as host:
        place = ("127.0.0.1", host.port)
        before = await asyncio.to_thread(ssl.get_server_certificate, place, timeout=10)
        files.authority.sign("renewed").write(files.folder)
        after = await asyncio.to_thread(ssl.get_server_certificate, place, timeout=10)
        assert before != after
        files.cert.write_text("half a fi")  # as while it is being replaced: the last good one is kept
        assert await asyncio.to_thread(ssl.get_server_certificate, place, timeout=10) == after
        assert await health(host.address, files.client()) == SERVING


@pytest.mark.parametrize("mutual", [False, True])
async def test_a_job_reports_over_tls(files: Files, tmp_path: Path, *, mutual: bool) -> None:
    tls = files.server(mutual=mutual)
    async with serving(tmp_path, tls) as host, open_aio_channel(host.address, tls=tls) as channel:
        operation = await host.jobs.submit("count", order("3"), project=PROJECT)
        stub = operations_pb2_grpc.OperationsStub(channel)
        request = operations_pb2.WaitOperationRequest(name=operation.name, timeout=duration_pb2.Duration(seconds=30))
        done = await stub.WaitOperation(request, timeout=40)
        assert done.done
        assert not done.HasField("error"), done.error


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "ANNEAL_TLS__KEY: cannot read .*: No such file"),
        ("x", "ANNEAL_TLS__KEY: .*tls.key is no PEM file"),
    ],
)
def test_a_file_that_is_none_is_named(files: Files, content: str | None, says: str) -> None:
    files.key.unlink()
    if content:
        files.key.write_text(content)
    with pytest.raises(Misconfigured, match=says):
        server_credentials(files.server())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"cert": "a.crt"}, "ANNEAL_TLS__KEY"),
        ({"key": "a.key"}, "ANNEAL_TLS__CERT"),
        ({"cert": "a.crt", "key": "a.key", "mutual": True}, "ANNEAL_TLS__CA"),
    ],
)
def test_half_a_configuration_is_refused(given: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TlsOptions.model_validate(given)
