"""A Kubernetes cluster through the user's own kubeconfig: reads, and connections to pods."""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from anneal.kit.errors import Denied, Down, Invalid, Missing, NotYet

DEFAULT_KUBECONFIG = "~/.kube/config"
TIMEOUT_S = (5.0, 20.0)
PROTOCOL = "v4.channel.k8s.io"


class KubeconfigInvalid(Invalid):
    """There is no kubeconfig, or it cannot be used."""

    reason = "KUBECONFIG_INVALID"


class ClusterDown(Down):
    """The cluster's API does not answer."""

    reason = "CLUSTER_DOWN"


class ClusterDenied(Denied):
    """The kubeconfig's user may not do this."""

    reason = "CLUSTER_DENIED"


class ObjectMissing(Missing):
    """The cluster has no such object."""

    reason = "OBJECT_MISSING"


class PodMissing(NotYet):
    """No pod of a Service is ready."""

    reason = "POD_MISSING"


def kubeconfig_of(named: str, environment: Mapping[str, str]) -> str:
    """The kubeconfig that is used, as absolute paths: the named one, else `KUBECONFIG`, else `~/.kube/config`."""
    text = named or environment.get("KUBECONFIG", "") or DEFAULT_KUBECONFIG
    return os.pathsep.join(str(Path(path).expanduser().absolute()) for path in text.split(os.pathsep) if path)


class Cluster:
    """One context of a kubeconfig.

    Attributes:
        kubeconfig: as `kubeconfig_of` returns it.
        kube_context: name of the context in it.
    """

    def __init__(self, kubeconfig: str, kube_context: str = "") -> None:
        """Read the kubeconfig; nothing is sent, but a credential plug-in that it names may run.

        Args:
            kubeconfig: as `kubeconfig_of` returns it.
            kube_context: empty for the kubeconfig's current one.

        Raises:
            KubeconfigInvalid: there is none, or it cannot be used.
        """
        self.kubeconfig = kubeconfig
        try:
            from kubernetes import client, config
        except ImportError as error:  # an installation without this part
            raise KubeconfigInvalid(
                f"the Kubernetes client is not installed: {error}; pip install kubernetes"
            ) from None
        if not any(Path(path).is_file() for path in kubeconfig.split(os.pathsep)):
            raise KubeconfigInvalid(f"there is no kubeconfig at {kubeconfig}: name one with --kubeconfig or KUBECONFIG")
        settings = client.Configuration()
        try:
            available, current = config.list_kube_config_contexts(kubeconfig)
            self.kube_context = kube_context or str(current["name"])
            if self.kube_context not in {one["name"] for one in available}:
                known = ", ".join(sorted(one["name"] for one in available))
                raise KubeconfigInvalid(f"{kubeconfig} has no context {self.kube_context!r} (it has: {known})")
            config.load_kube_config(
                kubeconfig, context=self.kube_context, client_configuration=settings, persist_config=False
            )
        except (config.ConfigException, yaml.YAMLError, OSError, TypeError, KeyError, ValueError) as error:
            text = type(error).__name__ if isinstance(error, yaml.YAMLError) else str(error)
            raise KubeconfigInvalid(f"{kubeconfig} cannot be used: {text}") from None
        settings.retries = False
        self._settings = settings
        self._api = client.ApiClient(settings)

    @property
    def server(self) -> str:
        """URL of the API server."""
        return str(self._settings.host)

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """An object, or a list of objects.

        Args:
            path: such as `/api/v1/namespaces/n/services`.
            query: such as `labelSelector`.

        Raises:
            Refusal: it could not be read.
        """
        with self._refusals(f"read {path}"):
            serialized = self._api.param_serialize(
                "GET",
                path,
                query_params=list(query.items()),
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
            )
            answer = self._api.call_api(*serialized, _request_timeout=TIMEOUT_S)
            body = answer.read() or answer.data
        if answer.status >= 300:
            raise self._refused(answer.status, body, f"read {path}")
        try:
            value: dict[str, Any] = json.loads(body)
        except ValueError:
            raise ClusterDown(f"{self.server} answers GET {path} with something else than JSON") from None
        return value

    def connect(self, namespace: str, pod: str, port: int) -> Any:
        """A WebSocket to a port of a pod, in the protocol `v4.channel.k8s.io`.

        Raises:
            Refusal: it does not come about.
        """
        from kubernetes.stream import ws_client
        from websocket import WebSocketBadStatusException, WebSocketException

        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
        with self._refusals(f"forward to {pod}:{port}"):
            _, url, headers, *_ = self._api.param_serialize(
                "GET", path, header_params={"sec-websocket-protocol": PROTOCOL}, auth_settings=["BearerToken"]
            )
            url = ws_client.get_websocket_url(url) + "?" + urlencode({"ports": port})
            lowered = {name.lower(): value for name, value in headers.items()}
            try:
                return ws_client.create_websocket(self._settings, url, lowered)
            except WebSocketBadStatusException as error:
                raise self._refused(error.status_code, error.resp_body or b"", f"forward to {pod}:{port}") from None
            except WebSocketException as error:
                raise ClusterDown(f"{self.server}: cannot forward to {pod}:{port}: {error}") from None

    @contextlib.contextmanager
    def _refusals(self, what: str) -> Iterator[None]:
        import urllib3
        from kubernetes import client, config

        try:
            yield
        except client.ApiException as error:
            raise self._refused(int(error.status or 0), error.body or error.reason or b"", what) from None
        except config.ConfigException as error:  # a credential plug-in that fails later on
            raise KubeconfigInvalid(f"{self.kubeconfig}: {error}") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise ClusterDown(f"the cluster at {self.server} does not answer, so cannot {what}: {reason}") from None

    def _refused(self, status: int, body: bytes | str, what: str) -> Exception:
        text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
        with contextlib.suppress(ValueError):
            answer = json.loads(text)
            text = str(answer.get("message", text)) if isinstance(answer, dict) else text
        text = " ".join(text.split())[:500]
        if status == 401:
            return ClusterDenied(f"{self.server} does not take the credential of {self.kubeconfig}: log in again")
        if status == 403:
            return ClusterDenied(f"context {self.kube_context} of {self.kubeconfig} may not {what}: {text}")
        if status == 404:
            return ObjectMissing(f"cannot {what}: {text}")
        return ClusterDown(f"{self.server} cannot {what}: {status}: {text}")


def ready_pod(cluster: Cluster, namespace: str, selector: Mapping[str, str]) -> dict[str, Any]:
    """A ready pod that a Service selects; another one each time, where there are several.

    Raises:
        PodMissing: none is ready; the text says what the pods wait for.
    """
    labels = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    pods = cluster.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=labels).get("items") or []
    ready = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp") and _is_ready(pod)]
    if ready:
        chosen: dict[str, Any] = random.choice(ready)
        return chosen
    why = "; ".join(_waits_for(pod) for pod in pods[:3]) or "there is none yet"
    raise PodMissing(f"no pod with {labels} in {namespace} is ready: {why}")


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _waits_for(pod: Mapping[str, Any]) -> str:
    """What a pod that is not ready waits for, in the cluster's words."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp"):
        return f"{name} is being deleted"
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{name} waits for a node: {condition.get('message', '')}"
    for container in status.get("containerStatuses") or ():
        waiting = container.get("state", {}).get("waiting")
        if waiting:
            return f"{name}: {waiting.get('reason', '')} {waiting.get('message', '')}".rstrip()
    return f"{name} is {status.get('phase', 'unknown')} and not ready"


def container_port(pod: Mapping[str, Any], target: str | int) -> int:
    """The number of a port that a Service names, in a pod.

    Raises:
        ObjectMissing: the pod has no such port.
    """
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            if port.get("name") == target:
                return int(port["containerPort"])
    raise ObjectMissing(f"pod {pod['metadata']['name']} has no port {target!r}")
