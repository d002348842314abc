"""A service and the gateway as processes of their own, as a cluster runs them: each serves its metrics."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from anneal.v1 import registry_service_pb2 as registry
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub
from tests.fixtures.postgres import free_port

START_S = 60.0


def environment_of(folder: Path) -> dict[str, str]:
    """The environment of a process that keeps its data in a folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANNEAL_")}
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "ANNEAL_DATA_DIR": str(folder)}


@contextmanager
def process(module: str, folder: Path, **settings: str) -> Iterator[dict[str, Any]]:
    """A process that serves, and the line in which it said where."""
    log = folder / f"{module}.log"
    environment = {**environment_of(folder), **settings}
    with log.open("wb") as out:
        started = subprocess.Popen([sys.executable, "-m", module], stdout=out, stderr=out, env=environment)
    try:
        yield _serving(started, log)
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == 0, log.read_text()
    finally:
        if started.poll() is None:
            started.kill()
            started.wait()


def _serving(started: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and started.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("{") and (said := json.loads(line))["event"] == "serving":
                return dict(said)
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def read(address: str, path: str = "/metrics") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def value(text: str, name: str, **labels: str) -> float | None:
    """The value of a sample of these labels; None where there is none."""
    for line in text.splitlines():
        found = re.fullmatch(rf"{name}\{{(.*)\}} (\S+)", line)
        if found and all(f'{key}="{wanted}"' in found[1] for key, wanted in labels.items()):
            return float(found[2])
    return None


@pytest.mark.timeout(120)
def test_a_service_without_its_database_waits_and_can_be_stopped(tmp_path: Path) -> None:
    url = f"postgresql+asyncpg://anneal:a-secret@127.0.0.1:{free_port()}/anneal"
    log = tmp_path / "log"
    environment = {**environment_of(tmp_path), "ANNEAL_DATABASE_URL": url, "ANNEAL_METRICS__PORT": str(free_port())}
    with log.open("wb") as out:
        started = subprocess.Popen([sys.executable, "-m", "anneal.registry"], stdout=out, stderr=out, env=environment)
    try:
        deadline = time.monotonic() + START_S
        while "does not answer" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            assert started.poll() is None, log.read_text()
            time.sleep(0.05)
        page = f"127.0.0.1:{environment['ANNEAL_METRICS__PORT']}"
        assert read(page, "/livez")[0] == 200
        assert read(page, "/readyz")[0] == 503
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == 0, log.read_text()
    finally:
        if started.poll() is None:
            started.kill()
            started.wait()
    text = log.read_text()
    assert "a-secret" not in text
    assert "Traceback" not in text
    assert len([line for line in text.splitlines() if '"event": "away"' in line]) == 1


@pytest.mark.timeout(120)
def test_a_service_serves_its_metrics(tmp_path: Path) -> None:
    with process("anneal.registry", tmp_path) as said:
        request: Message = registry.ListModelsRequest(parent="projects/p")
        with grpc.insecure_channel(said["address"]) as channel:
            stub: Any = RegistryServiceStub(channel)
            stub.ListModels(request, timeout=10)
        status, text = read(f"127.0.0.1:{said['metrics_port']}")
    assert status == 200
    assert value(text, "grpc_server_handled_total", grpc_method="ListModels", grpc_code="OK") == 1
    assert value(text, "grpc_server_handling_seconds_count", grpc_method="ListModels") == 1


@pytest.mark.timeout(120)
def test_the_gateway_serves_its_metrics(tmp_path: Path) -> None:
    nowhere = json.dumps({"registry": "127.0.0.1:1", "serving": "127.0.0.1:1"})
    with process("anneal.gateway", tmp_path, ANNEAL_ADDRESSES=nowhere) as said:
        assert read(said["address"], "/health")[0] == 503
        status, text = read(said["address"])
        page = f"127.0.0.1:{said['metrics_port']}"
        # The registry has not answered yet.
        assert [read(page, path)[0] for path in ("/livez", "/readyz")] == [200, 503]
        assert "anneal_gateway_requests_total" in read(page)[1]
    assert status == 200
    assert value(text, "anneal_gateway_requests_total", route="/health", status="503") == 1
    assert value(text, "anneal_gateway_request_seconds_count", route="/health") == 1
