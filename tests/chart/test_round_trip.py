"""The script of `helm test`, run against real services: a registry, ingestion with its jobs, and a stand-in engine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from pydantic import SecretStr

from anneal.ingestion.bootstrap import build as build_ingestion
from anneal.kit.errors import NotYet
from anneal.kit.options import JobOptions, TlsOptions
from anneal.kit.rpc.channels import open_aio_channel
from anneal.kit.runtime import Runtime, Service
from anneal.kit.settings import ServiceSettings
from anneal.kit.testing import hosted
from anneal.registry.bootstrap import build as build_registry
from anneal.v1 import inference_service_pb2 as inference
from anneal.v1 import model_pb2
from anneal.v1 import registry_service_pb2 as registry
from anneal.v1.inference_service_pb2_grpc import InferenceServiceServicer, add_InferenceServiceServicer_to_server
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub
from tests.chart.rendering import CHART, ROOT, of_situation, pods
from tests.fixtures.certificates import Authority

SCRIPT = CHART / "files" / "round_trip.py"
TOKEN = "a-token"
MODEL = "projects/acme/models/tiny"
VERSION = "projects/helm-test/datasets/round-trip/versions/"


class _Gateway(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class _Ailing(_Gateway):
    status = 503


class _NotFit(NotYet):
    reason = "MODEL_REFUSED"


class _Engine(InferenceServiceServicer):
    """Completes a prompt, or refuses to; the real engine does it in tests/e2e and tests/containers."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.asked: list[str] = []

    async def Generate(self, request: inference.GenerateRequest, context: Any) -> inference.GenerateResponse:
        self.asked.append(request.target.base_model_digest)
        if self.refuses:
            raise _NotFit("the model's files are damaged")
        return inference.GenerateResponse(text=",")

    def build(self, runtime: Runtime) -> Service:
        return Service(
            name="serving",
            add=lambda server: add_InferenceServiceServicer_to_server(self, server),
            grpc_services=("anneal.v1.InferenceService",),
        )


def engine_that(*, refuses: bool = False) -> _Engine:
    return _Engine(refuses=refuses)  # type: ignore[abstract]  # what it leaves out answers UNIMPLEMENTED


async def test_a_file_becomes_a_dataset_that_is_read_back_the_same_at_every_run(tmp_path: Path) -> None:
    first, code = await round_trip(tmp_path, served=(MODEL,))
    assert code == 0, first
    assert f"{MODEL} is not imported yet, so it was asked nothing" in first
    assert first.endswith("the gateway answers, and waits for a base model\n")
    second, code = await round_trip(tmp_path, served=(MODEL,))
    assert code == 0, second
    read = [line for line in second.splitlines() if VERSION in line]
    assert read
    assert read == [line for line in first.splitlines() if VERSION in line]
    async with running(tmp_path, engine_that()) as (_, stub):
        listed = await stub.ListDatasetVersions(
            registry.ListDatasetVersionsRequest(parent="projects/helm-test/datasets/round-trip")
        )
        assert len(listed.dataset_versions) == 1


@pytest.mark.parametrize("served", [(MODEL,), ()])
async def test_a_base_model_that_is_there_is_asked(tmp_path: Path, served: tuple[str, ...]) -> None:
    engine = engine_that()
    output, code = await round_trip(tmp_path, served=served, engine=engine, model=MODEL)
    assert code == 0, output
    assert len(engine.asked) == 1
    assert engine.asked[0].startswith("sha256:")
    assert f"{MODEL} answers" in output
    assert output.endswith("round trip: the gateway answers\n")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"token": "another"}, "round trip failed at upload: UNAUTHENTICATED"),
        ({"gateway": _Ailing, "model": MODEL}, "HTTP Error 503"),
        (
            {"engine": engine_that(refuses=True), "model": MODEL},
            "complete with projects/acme/models/tiny: FAILED_PRECONDITION",
        ),
        (
            {"environment": {"GATEWAY": "http://127.0.0.1:1"}},
            "round trip failed at gateway: the gateway at http://127.0.0.1:1",
        ),
    ],
    ids=["token", "gateway", "engine", "no gateway"],
)
async def test_what_does_not_work_is_the_last_line(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    output, code = await round_trip(tmp_path, **given)
    assert code == 1
    assert told in output.splitlines()[-1]


async def test_a_job_that_fails_says_why(tmp_path: Path) -> None:
    """The blob that the first run wrote is damaged in the store: the job says so, and so does the test."""
    output, code = await round_trip(tmp_path)
    assert code == 0, output
    for path in (tmp_path / "data" / "store" / "blobs").rglob("*"):
        if path.is_file() and b"This file was written by `helm test`" in path.read_bytes()[:64]:
            path.chmod(0o644)
            path.write_bytes(b"something else")
    output, code = await round_trip(tmp_path)
    assert code == 1
    assert "failed: FAILED_PRECONDITION: the bytes stored under sha256:" in output.splitlines()[-1]


async def test_over_mutual_tls(tmp_path: Path) -> None:
    authority = Authority()
    cert, key = authority.sign().write(tmp_path)
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.pem)
    tls = TlsOptions(cert=cert, key=key, ca=ca, mutual=True)
    files = {"ANNEAL_TLS__CERT": str(cert), "ANNEAL_TLS__KEY": str(key), "ANNEAL_TLS__CA": str(ca)}
    output, code = await round_trip(tmp_path, tls=tls, environment=files)
    assert code == 0, output
    output, code = await round_trip(tmp_path, tls=tls)
    assert code == 1
    assert "UNAVAILABLE" in output


@pytest.mark.parametrize("name", ["standalone", "distributed-cpu", "distributed-gpu"])
def test_the_pod_runs_this_script_against_the_services_of_its_release(name: str) -> None:
    (pod,) = [pod for pod in pods(of_situation(name)) if pod.component == "test"]
    assert pod.container["command"][:2] == ["python", "-c"]
    assert pod.container["command"][2].strip() == SCRIPT.read_text(encoding="utf-8").strip()
    made = {thing["metadata"]["name"] for thing in of_situation(name) if thing["kind"] == "Service"}
    addresses = json.loads(pod.env["ANNEAL_ADDRESSES"] or "")
    assert {"registry", "ingestion", "serving"} <= set(addresses)
    assert {address.partition(":")[0] for address in addresses.values()} <= made
    assert (pod.env["GATEWAY"] or "").removeprefix("http://").partition(":")[0] in made
    read = set(re.findall(r'os\.environ\["(\w+)"\]', SCRIPT.read_text(encoding="utf-8")))
    assert read <= set(pod.env)


# -- helpers -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(
    folder: Path, engine: _Engine, tls: TlsOptions | None = None, model: str = ""
) -> AsyncIterator[tuple[str, Any]]:
    """The services on one address, and a stub of the registry."""
    settings = ServiceSettings(
        data_dir=folder / "data",
        tokens=(SecretStr(TOKEN),),
        tls=tls or TlsOptions(),
        jobs=JobOptions(lease_s=10, backoff_s=0.05, max_attempts=1),
    )
    async with (
        hosted(folder, [build_registry, build_ingestion, engine.build], settings=settings) as host,
        open_aio_channel(host.address, TOKEN, tls) as channel,
    ):
        stub: Any = RegistryServiceStub(channel)
        if model:
            files = folder / "files"
            files.mkdir(exist_ok=True)
            (files / "config.json").write_text("{}")
            parent, _, model_id = model.partition("/models/")
            described = model_pb2.Model(digest=host.store.put_tree(files), architecture="Tiny")
            await stub.CreateModel(registry.CreateModelRequest(parent=parent, model_id=model_id, model=described))
        yield host.address, stub


async def round_trip(
    folder: Path,
    *,
    token: str = TOKEN,
    gateway: type[_Gateway] = _Gateway,
    engine: _Engine | None = None,
    served: tuple[str, ...] = (),
    model: str = "",
    tls: TlsOptions | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[str, int | None]:
    """What the script prints, and what it ends with."""
    web = ThreadingHTTPServer(("127.0.0.1", 0), gateway)
    Thread(target=web.serve_forever, daemon=True).start()
    try:
        async with running(folder, engine or engine_that(), tls, model) as (address, _):
            services = ("registry", "ingestion", "serving", *(f"serving/{name}" for name in served))
            run = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                SCRIPT.read_text(encoding="utf-8"),
                env={
                    **{name: value for name, value in os.environ.items() if not name.startswith("ANNEAL_")},
                    "PYTHONPATH": str(ROOT / "services"),
                    "ANNEAL_TOKENS": f'["{token}"]',
                    "ANNEAL_ADDRESSES": json.dumps(dict.fromkeys(services, address)),
                    "GATEWAY": f"http://127.0.0.1:{web.server_port}",
                    "PROJECT": "acme",
                    "PATIENCE_S": "0" if token != TOKEN or (tls and not environment) else "15",
                    **(environment or {}),
                },
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await asyncio.wait_for(run.communicate(), 90)
    finally:
        web.shutdown()
        web.server_close()
    return output.decode(), run.returncode
