"""An API server as small as Helm needs: it stores and watches the kinds that the chart makes, and runs nothing.

Jobs and pods have succeeded as soon as they are there. What a cluster keeps of an object that exists, it refuses to
change.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Object = dict[str, Any]
DONE: Mapping[str, Any] = {
    "Job": {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]},
    "Pod": {"phase": "Succeeded"},
}
_PLURALS = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses"}
_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


class SmallCluster:
    """What is stored, by path, and what was asked for.

    Attributes:
        address: of the API.
        stored: the objects there are, by their path.
        writes: method and path of every change, in order.
    """

    def __init__(self, kinds: Iterable[tuple[str, str]], fixed: Callable[[Object], Any]) -> None:
        """Make it; nothing listens before `serving`.

        Args:
            kinds: API version and kind of what it can store.
            fixed: what of an object that exists cannot be changed.
        """
        self.address = ""
        self.stored: dict[str, Object] = {}
        self.writes: list[tuple[str, str]] = []
        self._kinds = sorted(kinds)
        self._fixed = fixed
        self._events: list[tuple[str, str, Object]] = []
        self._changed = Condition()
        self._pages = dict(self._discovery())

    @contextmanager
    def serving(self) -> Iterator[SmallCluster]:
        """Listen on a port of this machine."""
        handler = type("Handler", (_Handler,), {"cluster": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        server.block_on_close = False  # watches end with their clients
        Thread(target=server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def _discovery(self) -> Iterator[tuple[str, Any]]:
        """What there is: each kind of each version of each group, and that the server itself validates fields."""
        versions = sorted({version for version, _ in self._kinds})
        groups = [
            {"name": group, "versions": [known], "preferredVersion": known}
            for version in versions
            if (group := version.rpartition("/")[0])
            for known in [{"groupVersion": version, "version": version.rpartition("/")[2]}]
        ]
        yield "/version", {"major": "1", "minor": "33", "gitVersion": "v1.33.0"}
        yield "/api", {"kind": "APIVersions", "versions": ["v1"]}
        yield "/apis", {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        pages = {_root(version)[1:]: {"serverRelativeURL": f"/openapi/v3{_root(version)}"} for version in versions}
        yield "/openapi/v3", {"paths": pages}
        for version in versions:
            kinds = [kind for one, kind in self._kinds if one == version]
            resources = [
                {
                    "name": _plural(kind),
                    "singularName": kind.lower(),
                    "kind": kind,
                    "namespaced": True,
                    "verbs": _VERBS,
                }
                for kind in kinds
            ]
            yield _root(version), {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
            paths = {
                f"{_root(version)}/namespaces/{{ns}}/{_plural(kind)}/{{name}}": _patched(version, kind)
                for kind in kinds
            }
            yield f"/openapi/v3{_root(version)}", {"openapi": "3.0.0", "info": {}, "paths": paths}

    # -- what is asked -------------------------------------------------------------------------------------------

    def read(self, path: str, query: Mapping[str, list[str]]) -> tuple[int, Any]:
        """A page of the discovery, an object, or a list."""
        if path in self._pages:
            return 200, self._pages[path]
        if path in self.stored:
            return 200, self.stored[path]
        listed = next((one for one in self._kinds if path.endswith(f"/{_plural(one[1])}")), None)
        if listed is None:
            return 404, _status("NotFound", 404)
        version, kind = listed
        meta = {"resourceVersion": str(len(self._events))}
        return 200, {"kind": f"{kind}List", "apiVersion": version, "metadata": meta, "items": self._below(path)}

    def write(self, path: str, sent: Object) -> tuple[int, Any]:
        """Store an object, whether or not there is one."""
        with self._changed:
            before = self.stored.get(path)
            if before is not None and self._fixed(before) != self._fixed(sent):
                return 422, _status("Invalid", 422, f"{path}: field is immutable")
            made = copy.deepcopy(sent)
            made["metadata"].update(namespace=path.split("/namespaces/")[1].split("/")[0], uid=path)
            made["metadata"]["resourceVersion"] = str(len(self._events) + 1)
            if made["kind"] in DONE:
                made["status"] = DONE[made["kind"]]
            self.stored[path] = made
            self._tell("ADDED" if before is None else "MODIFIED", path, made)
        return (201 if before is None else 200), made

    def delete(self, path: str) -> tuple[int, Any]:
        """Delete an object at once."""
        with self._changed:
            gone = self.stored.pop(path, None)
            if gone is None:
                return 404, _status("NotFound", 404)
            self._tell("DELETED", path, gone)
        return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def watch(self, path: str) -> Iterator[Object | None]:
        """What is there, then what changes; None every second, to see whether anybody still listens."""
        with self._changed:
            at = len(self._events)
            for item in self._below(path):
                yield {"type": "ADDED", "object": item}
        version, kind = next(one for one in self._kinds if path.endswith(f"/{_plural(one[1])}"))
        marks = {"resourceVersion": str(at), "annotations": {"k8s.io/initial-events-end": "true"}}
        yield {"type": "BOOKMARK", "object": {"kind": kind, "apiVersion": version, "metadata": marks}}
        while True:
            with self._changed:
                self._changed.wait(1)
                new, at = self._events[at:], len(self._events)
            yield None
            for sort, where, thing in new:
                if where.startswith(f"{path}/"):
                    yield {"type": sort, "object": thing}

    def _below(self, path: str) -> list[Object]:
        return [thing for where, thing in self.stored.items() if where.startswith(f"{path}/")]

    def _tell(self, sort: str, path: str, thing: Object) -> None:
        self._events.append((sort, path, thing))
        self._changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    cluster: SmallCluster
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes: else each answer waits 40 ms for the client's ACK

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        query = parse_qs(asked.query)
        if "watch" in query:
            self._stream(asked.path)
        else:
            self._answer(*self.cluster.read(asked.path, query))

    def do_POST(self) -> None:
        sent = self._body()
        path = f"{urlsplit(self.path).path}/{sent['metadata']['name']}"
        self._write("POST", path, sent)

    def do_PATCH(self) -> None:
        assert "apply-patch" in self.headers["Content-Type"]
        self._write("PATCH", urlsplit(self.path).path, self._body())

    def do_DELETE(self) -> None:
        self._body()
        path = urlsplit(self.path).path
        self.cluster.writes.append(("DELETE", path))
        self._answer(*self.cluster.delete(path))

    def _write(self, method: str, path: str, sent: Object) -> None:
        self.cluster.writes.append((method, path))
        self._answer(*self.cluster.write(path, sent))

    def _body(self) -> Object:
        read = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found: Object = yaml.load(read, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
        return found

    def _answer(self, code: int, what: Any) -> None:
        body = json.dumps(what).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, path: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for event in self.cluster.watch(path):
                self.wfile.write(b"\n" if event is None else json.dumps(event).encode() + b"\n")
                self.wfile.flush()
        except OSError:
            return  # nobody listens any more

    def log_message(self, *_: object) -> None:
        pass


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _plural(kind: str) -> str:
    return _PLURALS.get(kind, f"{kind.lower()}s")


def _patched(version: str, kind: str) -> Object:
    group, _, number = version.rpartition("/")
    known = {"group": group, "version": number, "kind": kind}
    parameters = [{"name": "fieldValidation", "in": "query"}]
    return {"patch": {"parameters": parameters, "x-kubernetes-group-version-kind": known, "responses": {}}}


def _status(reason: str, code: int, message: str = "") -> Object:
    said = {"reason": reason, "code": code, "message": message or reason}
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", **said}
