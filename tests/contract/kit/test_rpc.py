"""What the interceptor makes of every RPC, over real channels, seen from the caller and from the scraped metrics."""

from __future__ import annotations

import asyncio
import errno
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from prometheus_client.parser import text_string_to_metric_families

from anneal.kit.metrics import Metrics
from anneal.kit.options import JobOptions, MetricsOptions
from anneal.kit.rpc import server as kit_server
from anneal.kit.rpc.channels import open_aio_channel
from anneal.kit.rpc.interceptor import KitInterceptor
from anneal.kit.rpc.server import Host
from anneal.kit.rpc.status import refusal_of, status_of
from anneal.kit.runtime import JobKind, Runtime, Service
from anneal.kit.settings import ServiceSettings
from anneal.kit.testing import hosted
from anneal.v1 import curation_service_pb2 as curation
from anneal.v1 import inference_service_pb2 as pb
from anneal.v1 import ingestion_service_pb2 as ingestion
from anneal.v1.inference_service_pb2_grpc import add_InferenceServiceServicer_to_server
from anneal.v1.ingestion_service_pb2_grpc import add_IngestionServiceServicer_to_server

SERVICE = "anneal.v1.InferenceService"
TARGET = pb.InferenceTarget(base_model_digest="d")
GOOD = pb.GenerateRequest(target=TARGET, prompt="x")
NOT_UTF8 = GOOD.SerializeToString().replace(b"x", b"\xff")
CUT_OFF = GOOD.SerializeToString()[:-1]


class Echo:
    """Answers with the prompt; `slow` takes too long, `bug` is one, and `full` finds no room on the disk."""

    Chat = StreamChat = None

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:
        if request.prompt == "slow":
            raise TimeoutError
        if request.prompt == "bug":
            raise KeyError("secret")
        if request.prompt == "full":
            raise OSError(errno.ENOSPC, "No space left on device", "/data/uploads")
        return pb.GenerateResponse(text=request.prompt)

    async def StreamGenerate(self, request: pb.GenerateRequest, context: Any) -> AsyncGenerator[pb.GenerateResponse]:
        for letter in request.prompt:
            yield pb.GenerateResponse(text=letter)

    async def Score(self, request: pb.ScoreRequest, context: Any) -> pb.ScoreResponse:
        return pb.ScoreResponse(context_tokens=min(request.token_ids.ids))


class Swallow:
    """Takes a stream."""

    GetUpload = IngestDocuments = ImportDataset = PushDataset = None

    async def UploadDocuments(
        self, request_iterator: AsyncIterator[ingestion.UploadDocumentsRequest], context: Any
    ) -> ingestion.Upload:
        return ingestion.Upload(size_bytes=sum([len(m.chunk.data) async for m in request_iterator]))


def build(runtime: Runtime) -> Service:
    def add(server: grpc.aio.Server) -> None:
        echo: Any = Echo()
        swallow: Any = Swallow()
        add_InferenceServiceServicer_to_server(echo, server)
        add_IngestionServiceServicer_to_server(swallow, server)

    kind = JobKind(name="measure", request=curation.CurateDatasetRequest, body="tests.contract.kit.measuring:work")
    return Service(name="test", add=add, grpc_services=(SERVICE,), kinds=(kind,))


def settings(folder: Path, **more: Any) -> ServiceSettings:
    jobs = JobOptions(lease_s=10, backoff_s=0.05)
    return ServiceSettings(data_dir=folder, jobs=jobs, metrics=MetricsOptions(port=0), **more)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with hosted(tmp_path, [build], settings=settings(tmp_path)) as running:
        yield running


@pytest.fixture
async def channel(host: Host) -> AsyncIterator[grpc.aio.Channel]:
    async with open_aio_channel(host.address) as opened:
        yield opened


async def scrape(host: Host) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of the process as Prometheus would see it."""

    def read() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{host.metrics_port}/metrics", timeout=10) as answer:
            data: bytes = answer.read()
            return data.decode()

    families = text_string_to_metric_families(await asyncio.to_thread(read))
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


async def sample(host: Host, name: str, **labels: str) -> float | None:
    return (await scrape(host)).get((name, frozenset(labels.items())))


async def handled(host: Host, method: str, code: str, kind: str = "unary", service: str = SERVICE) -> float | None:
    labels = {"grpc_type": kind, "grpc_service": service, "grpc_method": method, "grpc_code": code}
    return await sample(host, "grpc_server_handled_total", **labels)


def call(channel: grpc.aio.Channel, method: str = f"/{SERVICE}/Generate") -> Any:
    """A method that sends bytes as they are."""
    return channel.unary_unary(method)


async def refused(answer: Any) -> tuple[str, str, list[tuple[str, str]], str]:
    """Code, reason, violations and text of a failed call."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status_of(caught.value).details:
        if not detail.Unpack(info):
            detail.Unpack(bad)
    violations = [(v.field, v.description) for v in bad.field_violations]
    return caught.value.code().name, info.reason, violations, caught.value.details() or ""


@pytest.mark.parametrize("data", [NOT_UTF8, CUT_OFF])
async def test_bytes_that_are_no_message_are_refused_and_counted(
    host: Host, channel: grpc.aio.Channel, data: bytes
) -> None:
    code, reason, _, text = await refused(call(channel)(data))
    assert (code, reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert "UTF-8" in text
    assert await handled(host, "Generate", "INVALID_ARGUMENT") == 1

    async def read() -> None:
        stream: Any = channel.unary_stream(f"/{SERVICE}/StreamGenerate")
        async for _ in stream(data):
            pass

    assert (await refused(read()))[:2] == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert await handled(host, "StreamGenerate", "INVALID_ARGUMENT", "server_stream") == 1


async def test_in_a_stream_of_requests_too(host: Host, channel: grpc.aio.Channel) -> None:
    upload: Any = channel.stream_unary("/anneal.v1.IngestionService/UploadDocuments")
    good = ingestion.UploadDocumentsRequest(chunk=ingestion.UploadChunk(data=b"xyz")).SerializeToString()
    assert ingestion.Upload.FromString(await upload(iter([good, good]))).size_bytes == 6
    code, reason, _, _ = await refused(upload(iter([good, good[:-1]])))
    assert (code, reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    service = "anneal.v1.IngestionService"
    assert await handled(host, "UploadDocuments", "INVALID_ARGUMENT", "client_stream", service) == 1


@pytest.mark.parametrize(
    ("data", "violation"),
    [
        (GOOD.SerializeToString() + b"\x7a\x01x", ("#15", "GenerateRequest has no such field")),
        (GOOD.SerializeToString() + b"\x10\x05\x10\x05", ("prompt", "has the wrong type")),
        (b"\x12\x01x\x0a\x02\x08\x05", ("target.deployment", "has the wrong type")),
        (b"\x0a\x02\x08\x05\x10\x05", ("target.deployment", "has the wrong type")),
    ],
)
async def test_what_the_contract_does_not_know_is_told_apart(
    channel: grpc.aio.Channel, data: bytes, violation: tuple[str, str]
) -> None:
    code, _, violations, _ = await refused(call(channel)(data))
    assert code == "INVALID_ARGUMENT"
    assert violation in violations
    assert len(violations) == len(set(violations))


async def test_a_required_list_may_not_be_empty(channel: grpc.aio.Channel) -> None:
    method = f"/{SERVICE}/Score"
    empty = pb.ScoreRequest(target=TARGET, token_ids=pb.TokenIds())
    code, _, violations, _ = await refused(call(channel, method)(empty.SerializeToString()))
    assert (code, violations) == ("INVALID_ARGUMENT", [("token_ids.ids", "is required")])
    # A zero in it is a value.
    empty.token_ids.ids.append(0)
    assert pb.ScoreResponse.FromString(await call(channel, method)(empty.SerializeToString())).context_tokens == 0


async def test_every_error_has_its_reason(host: Host, channel: grpc.aio.Channel) -> None:
    async def ask(prompt: str) -> tuple[str, str, list[tuple[str, str]], str]:
        return await refused(call(channel)(pb.GenerateRequest(target=TARGET, prompt=prompt).SerializeToString()))

    assert (await ask("slow"))[:2] == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    code, reason, _, text = await ask("bug")
    assert (code, reason) == ("INTERNAL", "INTERNAL")
    assert "secret" not in text
    code, reason, _, text = await ask("full")
    assert (code, reason) == ("FAILED_PRECONDITION", "DISK_FULL")
    assert "/data/uploads is full" in text
    assert "make room there" in text
    assert await handled(host, "Generate", "DEADLINE_EXCEEDED") == 1
    assert await handled(host, "Generate", "INTERNAL") == 1


@pytest.mark.parametrize("token", ["", "wrong", "a-toke", "a-token2"])
async def test_only_a_known_token_opens_the_door(tmp_path: Path, token: str) -> None:
    async with hosted(tmp_path, [build], settings=settings(tmp_path, tokens=("a-token",))) as host:
        for header in (f"Bearer {token}", token):
            async with grpc.aio.insecure_channel(host.address) as channel:
                answer = call(channel)(GOOD.SerializeToString(), metadata=(("authorization", header),))
                assert (await refused(answer))[:2] == ("UNAUTHENTICATED", "CREDENTIALS_MISSING")
        async with open_aio_channel(host.address, "a-token") as channel:
            assert pb.GenerateResponse.FromString(await call(channel)(GOOD.SerializeToString())).text == "x"
        async with open_aio_channel(host.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(channel)(GOOD.SerializeToString())
            assert refusal_of(caught.value) is not None


async def test_no_token_is_no_token_even_where_a_blank_one_was_configured() -> None:
    echo: Any = grpc.unary_unary_rpc_method_handler(lambda request, _context: request, bytes, bytes)
    server = grpc.aio.server(interceptors=[KitInterceptor(Metrics(), tokens=("",))])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("s", {"m": echo})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for metadata in ((), (("authorization", "Bearer "),)):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(channel, "/s/m")(b"", metadata=metadata)
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    finally:
        await server.stop(0)


async def test_rpcs_are_scraped_with_their_labels(host: Host, channel: grpc.aio.Channel) -> None:
    for _ in range(3):
        await call(channel)(GOOD.SerializeToString())
    labels = {"grpc_type": "unary", "grpc_service": SERVICE, "grpc_method": "Generate"}
    assert await sample(host, "grpc_server_started_total", **labels) == 3
    assert await handled(host, "Generate", "OK") == 3
    assert await sample(host, "grpc_server_msg_received_total", **labels) == 3
    assert await sample(host, "grpc_server_msg_sent_total", **labels) == 3
    assert await sample(host, "grpc_server_handling_seconds_count", **labels) == 3
    assert await sample(host, "grpc_server_handling_seconds_bucket", le="+Inf", **labels) == 3


async def ended(host: Host) -> str:
    """The name of a job that has measured and ended."""
    request = curation.CurateDatasetRequest(parent="projects/p", dataset_id="d")
    name = str((await host.jobs.submit("measure", request, project="projects/p")).name)
    async with asyncio.timeout(30):
        while not (await host.jobs.store.get(name)).state.is_final:
            await asyncio.sleep(0.05)
    return name


async def test_jobs_are_scraped_by_state_and_rows_by_verdict_and_reason(host: Host) -> None:
    name = await ended(host)
    async with asyncio.timeout(10):
        while await sample(host, "anneal_jobs", kind="measure", state="SUCCEEDED") != 1:
            await asyncio.sleep(0.1)
    assert await sample(host, "anneal_jobs", kind="measure", state="RUNNING") == 0
    assert await sample(host, "anneal_job_transitions_total", kind="measure", state="SUCCEEDED") == 1
    assert await sample(host, "anneal_job_seconds_count", kind="measure", state="SUCCEEDED") == 1
    rows = {"": ("kept", 7), "too_many_hash": ("removed", 3), "invalid_utf8": ("quarantined", 1)}
    for reason, (verdict, count) in rows.items():
        assert await sample(host, "anneal_rows_total", kind="measure", verdict=verdict, reason=reason) == count
    # The job is over, and a scraper that comes only now still sees what it said last.
    assert await sample(host, "anneal_training_loss", kind="measure", operation=name) == 1.25
    assert await sample(host, "anneal_training_tokens_per_second", kind="measure", operation=name) == 812


async def test_readings_of_a_job_are_gone_some_time_after_its_end(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit_server, "KEEP_READINGS_S", 0.5)
    name = await ended(host)
    async with asyncio.timeout(10):
        while await sample(host, "anneal_training_loss", kind="measure", operation=name) is not None:
            await asyncio.sleep(0.1)
