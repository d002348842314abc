"""A small real HTTP server that answers `/v1/embeddings`, faults included."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = tuple[int, dict[str, str]]


@dataclass(slots=True)
class EmbeddingServer:
    """What the server saw, and what it says.

    Attributes:
        vector: of a text.
        faults: status and headers of the first answers.
        requests: bodies in the order of arrival.
        keys: `Authorization` headers in the same order.
    """

    vector: Callable[[str], list[float]]
    faults: list[Fault] = field(default_factory=list)
    base_url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        vectors = [
            {"object": "embedding", "index": n, "embedding": self.vector(t)} for n, t in enumerate(body["input"])
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        # Out of order: the index says which is which.
        return {"object": "list", "model": body["model"], "data": vectors[::-1], "usage": usage}


@contextmanager
def embedding_server(vector: Callable[[str], list[float]], *faults: Fault) -> Iterator[EmbeddingServer]:
    """Serve on a free port of the loopback interface until the block ends."""
    server = EmbeddingServer(vector, list(faults))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            server.requests.append(body)
            server.keys.append(self.headers.get("authorization", ""))
            status, headers = server.faults.pop(0) if server.faults else (200, {})
            said = server.answer(body) if status == 200 else {"error": {"message": f"fault {status}"}}
            data = json.dumps(said).encode()
            self.send_response(status)
            for name, value in {
                "content-type": "application/json",
                "content-length": str(len(data)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            return

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    server.base_url = f"http://127.0.0.1:{running.server_port}/v1"
    try:
        yield server
    finally:
        running.shutdown()
        running.server_close()
        thread.join(10)
