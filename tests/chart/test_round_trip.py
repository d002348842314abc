"""The script of `helm test`, run against a registry and a stand-in for the gateway's health."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from pydantic import SecretStr

from anneal.kit.options import TlsOptions
from anneal.kit.settings import ServiceSettings
from anneal.kit.testing import hosted
from anneal.registry.bootstrap import build
from tests.chart.rendering import CHART, ROOT, of_situation, pods
from tests.fixtures.certificates import Authority

SCRIPT = CHART / "files" / "round_trip.py"


class _Gateway(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class _Ailing(_Gateway):
    status = 503


@pytest.mark.parametrize(
    ("token", "gateway", "code", "told"),
    [
        ("a-token", _Gateway, 0, "round trip: the registry and the gateway answer"),
        ("another", _Gateway, 1, "UNAUTHENTICATED"),
        ("a-token", _Ailing, 1, "HTTP Error 503"),
    ],
)
async def test_the_round_trip(tmp_path: Path, token: str, gateway: type[_Gateway], code: int, told: str) -> None:
    output, returned = await round_trip(tmp_path, token, gateway)
    assert told in output
    assert returned == code


async def test_the_round_trip_over_mutual_tls(tmp_path: Path) -> None:
    authority = Authority()
    cert, key = authority.sign().write(tmp_path)
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.pem)
    tls = TlsOptions(cert=cert, key=key, ca=ca, mutual=True)
    files = {"ANNEAL_TLS__CERT": str(cert), "ANNEAL_TLS__KEY": str(key), "ANNEAL_TLS__CA": str(ca)}
    output, returned = await round_trip(tmp_path, "a-token", _Gateway, tls, files)
    assert (returned, output) == (0, "round trip: the registry and the gateway answer\n")
    output, returned = await round_trip(tmp_path, "a-token", _Gateway, tls)
    assert returned == 1
    assert "UNAVAILABLE" in output


async def round_trip(
    folder: Path,
    token: str,
    gateway: type[_Gateway],
    tls: TlsOptions | None = None,
    files: Mapping[str, str] | None = None,
) -> tuple[str, int | None]:
    """What the script says, and what it ends with."""
    settings = ServiceSettings(
        data_dir=folder,
        tokens=(SecretStr("a-token"),),
        tls=tls or TlsOptions(),
    )
    web = ThreadingHTTPServer(("127.0.0.1", 0), gateway)
    Thread(target=web.serve_forever, daemon=True).start()
    try:
        async with hosted(folder, [build], settings=settings) as host:
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith("ANNEAL_")},
                "PYTHONPATH": str(ROOT / "services"),
                "ANNEAL_TOKENS": f'["{token}"]',
                **(files or {}),
                "REGISTRY": host.address,
                "GATEWAY": f"http://127.0.0.1:{web.server_port}",
                "PATIENCE_S": "0",
            }
            run = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                SCRIPT.read_text(encoding="utf-8"),
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await asyncio.wait_for(run.communicate(), 60)
    finally:
        web.shutdown()
        web.server_close()
    return output.decode(), run.returncode


@pytest.mark.parametrize("name", ["standalone", "distributed-gpu"])
def test_the_pod_runs_this_script_against_the_services_of_its_release(name: str) -> None:
    (pod,) = [pod for pod in pods(of_situation(name)) if pod.component == "test"]
    assert pod.container["command"][:2] == ["python", "-c"]
    assert pod.container["command"][2].strip() == SCRIPT.read_text(encoding="utf-8").strip()
    made = {thing["metadata"]["name"] for thing in of_situation(name) if thing["kind"] == "Service"}
    assert (pod.env["REGISTRY"] or "").partition(":")[0] in made
    assert (pod.env["GATEWAY"] or "").removeprefix("http://").partition(":")[0] in made
