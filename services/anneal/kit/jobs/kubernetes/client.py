"""The cluster's API through the `kubernetes` client: plain objects in and out, and errors that say what can be done.

Objects stay dicts: a newer cluster may say what a typed model of this client's age refuses to read.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.watch import Watch

from anneal.kit.jobs.kubernetes.causes import Cause, cause_of
from anneal.kit.jobs.kubernetes.resources import Resource
from anneal.kit.settings import Misconfigured

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
REQUEST_TIMEOUT_S = (5.0, 20.0)
WATCH_S = 300
"""Seconds after which the server ends a watch, so that a half-dead connection is noticed."""
TRIES = 4
PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0
PAGE_SIZE = 500


class ApiError(Exception):
    """The API did not do what it was asked to.

    Attributes:
        words: the message of the API alone, without the request.
    """

    def __init__(self, text: str, words: str = "") -> None:
        super().__init__(text)
        self.words = words or text


class Unreachable(ApiError):
    """It does not answer, or is busy; the same later may succeed.

    Attributes:
        retry_after_s: how long the server asks to wait; None where it does not say.
    """

    def __init__(self, text: str, words: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(text, words)
        self.retry_after_s = retry_after_s


class WebhookAway(Unreachable):
    """An admission webhook does not answer the API."""


class QuotaExceeded(ApiError):
    """A quota of the namespace is used up; the same may succeed when something has ended."""


class Refused(ApiError):
    """It will not: the account may not, or the request is wrong."""


class Denied(Refused):
    """The object is wrong, or an admission webhook or policy denies it: the same object is denied again."""


class Taken(ApiError):
    """An object of that name exists."""


class Absent(ApiError):
    """There is no such object, or no such kind of object."""


class Expired(ApiError):
    """What changed since then is not known any more: list again."""


_ERRORS: Mapping[int, type[ApiError]] = {404: Absent, 410: Expired}
_ADDRESS = re.compile(r"<[\w.]+ object at 0x[0-9a-f]+>:? ?")
"""What urllib3 says of its objects: nothing that a user needs, and another text for each try."""
_WAITING_HELPS = (401, 408, 409, 429)
"""A token may just be renewed (401), a quota just be counted by another request (409)."""


class Cluster:
    """One namespace of a cluster."""

    def __init__(self, kubeconfig: Path | None, namespace: str) -> None:
        """Make it; nothing is sent.

        Args:
            kubeconfig: how to reach it; None for the account of this pod.
            namespace: empty for this pod's own, or the one that the kubeconfig names.

        Raises:
            Misconfigured: there is neither.
        """
        settings = client.Configuration()
        try:
            if kubeconfig is None:
                config.load_incluster_config(client_configuration=settings)
            else:
                config.load_kube_config(str(kubeconfig), client_configuration=settings, persist_config=False)
        except (config.ConfigException, OSError) as error:
            where = "this pod's service account" if kubeconfig is None else str(kubeconfig)
            raise Misconfigured(f"the cluster cannot be reached with {where}: {error}") from None
        settings.retries = False  # what may be tried again is known here
        self._api = client.ApiClient(settings)
        self.namespace = namespace or _own_namespace(kubeconfig)

    def create(self, resource: Resource, thing: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object; returns it as the cluster stored it.

        Raises:
            Taken: one of that name exists, maybe because an answer to an earlier try was lost.
            ApiError: it was not created.
        """
        return self._patiently("POST", resource.path(self.namespace), body=thing)

    def get(self, resource: Resource, name: str) -> dict[str, Any]:
        """One object.

        Raises:
            Absent: there is none.
            ApiError: it could not be read.
        """
        return self._patiently("GET", resource.path(self.namespace, name))

    def delete(self, resource: Resource, name: str) -> None:
        """Delete an object and, in the background, what it owns; one that is gone stays gone.

        Raises:
            ApiError: it was not deleted.
        """
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        with contextlib.suppress(Absent):
            self._patiently("DELETE", resource.path(self.namespace, name), body=options)

    def list(self, resource: Resource, selector: str = "", *, fields: str = "") -> tuple[list[dict[str, Any]], str]:
        """Every object with these labels and fields, and the version from which a watch goes on.

        Raises:
            Expired: it changed too much while it was read.
            ApiError: it could not be read.
        """
        found: list[dict[str, Any]] = []
        query = {"labelSelector": selector, "fieldSelector": fields, "limit": str(PAGE_SIZE)}
        query = {name: value for name, value in query.items() if value}
        while True:
            page = self._patiently("GET", resource.path(self.namespace), query=query)
            found.extend(page.get("items") or [])
            following = page["metadata"].get("continue")
            if not following:
                return found, page["metadata"]["resourceVersion"]
            query["continue"] = following

    def watch(self, resource: Resource, selector: str, version: str, *, heard: Callable[[], None]) -> Changes:
        """The changes after a version; `heard` is called when the server has begun to tell them."""
        return Changes(lambda stream: self._open(resource, selector, version, stream, heard), resource)

    def _open(
        self, resource: Resource, selector: str, version: str, stream: Watch, heard: Callable[[], None]
    ) -> Iterator[Any]:
        def listed(**query: Any) -> Any:
            wanted = {
                "labelSelector": selector,
                "watch": "true",
                "resourceVersion": str(query["resource_version"]),
                "allowWatchBookmarks": "true",
                "timeoutSeconds": str(WATCH_S),
            }
            path = resource.path(self.namespace)
            answer = self._send("GET", path, query=wanted, timeout_s=(REQUEST_TIMEOUT_S[0], WATCH_S + 30.0))
            heard()
            return answer.response

        # Given a timeout, the stream tries nothing again by itself.
        events: Iterator[Any] = stream.stream(
            listed, resource_version=version, timeout_seconds=WATCH_S, deserialize=False
        )
        return events

    def _patiently(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Send and read the answer; again, with growing pauses, where waiting helps."""
        for left in reversed(range(TRIES)):
            try:
                answer = self._send(method, path, body=body, query=query)
                with _wrapped(method, path):
                    read: dict[str, Any] = json.loads(answer.read())
                return read
            except Unreachable as error:
                if not left:
                    raise
                backoff_s = PAUSE_S * 2 ** (TRIES - 1 - left) * random.uniform(0.75, 1.25)
                time.sleep(min(error.retry_after_s or backoff_s, LONGEST_PAUSE_S))
        raise AssertionError("unreachable")

    def _send(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        timeout_s: tuple[float, float] = REQUEST_TIMEOUT_S,
    ) -> Any:
        with _wrapped(method, path):
            made = self._api.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = self._api.call_api(*made, _request_timeout=timeout_s)
            if answer.status >= 300:
                answer.read()
        if answer.status >= 300:
            raise _error(answer.status, answer.data, f"{method} {path}", answer.headers.get("Retry-After"))
        return answer


class Changes:
    """A watch: iterate it for pairs of type and object until the server ends it; `stop` ends it from another thread."""

    def __init__(self, opened: Callable[[Watch], Iterator[Any]], resource: Resource) -> None:
        self._opened, self._resource = opened, resource
        self._stream = Watch()

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The changes.

        Raises:
            Expired: the version is too old.
            ApiError: the connection broke.
        """
        with _wrapped("GET", f"watching {self._resource}"):
            for event in self._opened(self._stream):
                yield event["type"], event["object"]

    def stop(self) -> None:
        """End it."""
        self._stream.stop()


@contextlib.contextmanager
def _wrapped(method: str, path: str) -> Iterator[None]:
    """Turn what the client raises into this module's errors."""
    try:
        yield
    except client.ApiException as error:
        raise _error(int(error.status or 0), error.body or error.reason, f"{method} {path}", None) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        text = _ADDRESS.sub("", str(error))
        raise Unreachable(f"{method} {path}: {type(error).__name__}: {text}") from error
    except ValueError as error:  # half an answer
        raise Unreachable(f"{method} {path}: no JSON came back") from error


def _error(status: int, body: bytes | str | None, what: str, retry_after: str | None) -> ApiError:
    """The error that an HTTP status, or the status inside a watch, stands for."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else body or ""
    reason = ""
    with contextlib.suppress(ValueError):
        said = json.loads(text)
        if isinstance(said, dict):
            text, reason = str(said.get("message", text)), str(said.get("reason", ""))
    words = " ".join(text.split())[:1000]
    text = f"{what}: {status}: {words}"
    cause = cause_of(words)
    if status == 409 and reason == "AlreadyExists":
        return Taken(text, words)
    if status in (400, 422) or (status >= 400 and cause is Cause.DENIED):  # a webhook chooses its code
        return Denied(text, words)
    if status in _WAITING_HELPS or status >= 500 or status == 0:
        kind = WebhookAway if cause is Cause.WEBHOOK_AWAY else Unreachable
        return kind(text, words, float(retry_after) if retry_after and retry_after.isdigit() else None)
    if status == 403 and cause is Cause.QUOTA:
        return QuotaExceeded(text, words)
    return _ERRORS.get(status, Refused)(text, words)


def _own_namespace(kubeconfig: Path | None) -> str:
    if kubeconfig is None:
        return NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else "default"
    _, active = config.list_kube_config_contexts(str(kubeconfig))
    return str(active["context"].get("namespace", "default"))
