"""A large blob may take as long as it takes; a store that goes silent is noticed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from anneal.kit.digests import digest_of_bytes
from anneal.kit.store import TIMEOUTS, Store
from anneal.kit.store_faults import StoreFault

DATA = b"x" * 8
DIGEST = digest_of_bytes(DATA)


@contextmanager
def dribbling(pause_s: float) -> Iterator[str]:
    """A server that sends a byte, pauses, and sends the next one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in {
                "Content-Length": str(len(DATA)),
                "ETag": '"1"',
                "Last-Modified": "Mon, 30 Nov 2026 00:00:00 GMT",
            }.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for number in range(len(DATA)):
                    self.wfile.write(DATA[number : number + 1])
                    self.wfile.flush()
                    time.sleep(pause_s)
            except OSError:
                return

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def opened(endpoint: str, folder: Path, **client: Any) -> Store:
    options = {
        "endpoint": endpoint,
        "region": "us-east-1",
        "access_key_id": "a",
        "secret_access_key": "b",
        "client_options": {"allow_http": True, **client},
        "retry_config": {"max_retries": 0},
    }
    return Store("s3://bucket", folder / "cache", options)


def test_a_body_that_keeps_coming_outlasts_the_limit_of_silence(tmp_path: Path) -> None:
    with dribbling(0.3) as endpoint:
        began = time.monotonic()
        assert opened(endpoint, tmp_path, read_timeout="1s").get_bytes(DIGEST) == DATA
        assert time.monotonic() - began > 2.0


def test_silence_in_the_middle_is_a_failure_of_the_store(tmp_path: Path) -> None:
    with dribbling(5.0) as endpoint, pytest.raises(StoreFault):
        opened(endpoint, tmp_path, read_timeout="1s").get_bytes(DIGEST)


def test_requests_have_no_other_limit_unless_the_options_set_one(tmp_path: Path) -> None:
    plain: Any = opened("http://127.0.0.1:1", tmp_path)._backend
    assert {name: str(plain.client_options[name]) for name in TIMEOUTS} == {"timeout": "24h", "read_timeout": "30s"}
    own: Any = opened("http://127.0.0.1:1", tmp_path, timeout="5s")._backend
    assert str(own.client_options["timeout"]) == "5s"
