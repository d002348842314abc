"""The secret that the chart makes is made once: what the cluster has is what an upgrade sends."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from helm_python import Config

from tests.chart.rendering import NAMESPACE, RELEASE, Object, chart, named, parsed

NAME = "rel-anneal-auth"
SECRETS = {"name": "secrets", "singularName": "secret", "namespaced": True, "kind": "Secret", "verbs": ["get"]}
DISCOVERY: Mapping[str, Any] = {
    "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [SECRETS]},
}
MISSING = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}


@contextmanager
def cluster(stored: Mapping[str, Any]) -> Iterator[str]:
    """The address of an API that has nothing but these."""
    answers = {**DISCOVERY, **stored}

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            body = json.dumps(MISSING if found is None else found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def sent(stored: Mapping[str, Any]) -> Object:
    """The secret that Helm would send to such a cluster."""
    with (
        cluster(stored) as address,
        Config(kube_apiserver=address, namespace=NAMESPACE, storage_driver="memory") as config,
    ):
        made = config.render(chart(), {}, name=RELEASE, namespace=NAMESPACE, is_upgrade=True, revision=2)
    return named(parsed(made), "Secret", NAME)


def test_an_upgrade_sends_the_token_and_the_key_that_are_there() -> None:
    first = sent({})
    assert sent({}) != first
    again = sent({f"/api/v1/namespaces/{NAMESPACE}/secrets/{NAME}": first})
    assert again["data"] == first["data"]


def test_what_a_secret_lacks_is_added() -> None:
    kept = {"token": b64encode(b"kept-token").decode()}
    there = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}, "data": kept}
    found = sent({f"/api/v1/namespaces/{NAMESPACE}/secrets/{NAME}": there})["data"]
    assert found["token"] == kept["token"]
    assert found["tokens"] == b64encode(b'["kept-token"]').decode()
    assert found["api-key"]
