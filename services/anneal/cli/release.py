"""A release of the chart, read from the cluster: its Services, how they are secured, and who may call them."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anneal.cli.cluster import Cluster, ClusterDenied
from anneal.cli.contexts import Forward
from anneal.kit.errors import Denied, Invalid, Missing

PART_OF = "app.kubernetes.io/part-of=anneal"
INSTANCE, COMPONENT, BASE = "app.kubernetes.io/instance", "app.kubernetes.io/component", "anneal.dev/base"
STANDALONE = "standalone"
GRPC_SERVICES = ("registry", "ingestion", "synthesis", "curation", "training", "evaluation")


class ReleaseMissing(Missing):
    """The namespace has no such release of the chart."""

    reason = "RELEASE_MISSING"


class ReleaseUnclear(Invalid):
    """The release's objects do not say what a client must know."""

    reason = "RELEASE_UNCLEAR"


class SecretDenied(Denied):
    """The kubeconfig's user may not read a secret of the release."""

    reason = "SECRET_DENIED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is read from secrets; what the user has given is not."""

    token: bool = True
    api_key: bool = True
    ca: bool = True


@dataclass(slots=True)
class ReleaseAccess:
    """What a client must know about a release.

    Attributes:
        mode: `standalone` or `distributed`.
        forwards: `service -> forward`, with the keys of a context's addresses, and `http`.
        selectors: `Kubernetes Service -> labels of its pods`.
        late: Services whose pods are not ready before something is imported: those of base models.
        token: bearer token; empty where it was not asked for.
        api_key: key of the gateway; empty where the cluster has only its hash.
        keys: keys that the gateway takes: `{"name", "sha256", "project"}`.
        tls: `ca.crt`, and with mutual TLS `tls.crt` and `tls.key`, as PEM; empty without TLS.
    """

    mode: str
    forwards: dict[str, Forward] = field(default_factory=dict)
    selectors: dict[str, Mapping[str, str]] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)
    token: str = ""
    api_key: str = ""
    keys: list[dict[str, str]] = field(default_factory=list)
    tls: dict[str, bytes] = field(default_factory=dict)

    def project(self, api_key: str) -> str:
        """The project that a key of the gateway opens; without the key, the one of all keys; empty when unclear."""
        digest = hashlib.sha256(api_key.encode()).hexdigest()
        own = [key.get("project", "default") for key in self.keys if api_key and key.get("sha256") == digest]
        projects = {key.get("project", "default") for key in self.keys}
        return own[0] if own else projects.pop() if len(projects) == 1 else ""

    def takes(self, api_key: str) -> bool:
        """Whether the gateway takes a key."""
        digest = hashlib.sha256(api_key.encode()).hexdigest()
        return any(key.get("sha256") == digest for key in self.keys)


def read(cluster: Cluster, namespace: str, name: str, wanted: Wanted) -> ReleaseAccess:
    """Read a release.

    Raises:
        ReleaseMissing: the namespace has no such release; the text names those that it has.
        SecretDenied: a secret may not be read; the text says what to give instead.
        Refusal: the cluster does not answer, or the kubeconfig's user may not read Services or workloads.
    """
    services = _items(cluster, f"/api/v1/namespaces/{namespace}/services", f"{INSTANCE}={name},{PART_OF}")
    if not services:
        raise _missing(cluster, namespace, name)
    by_component = {service["metadata"]["labels"].get(COMPONENT, ""): service for service in services}
    is_standalone = STANDALONE in by_component
    workloads = _workloads(cluster, namespace, name, is_standalone)
    found = ReleaseAccess(STANDALONE if is_standalone else "distributed")
    for service in services:
        found.selectors[service["metadata"]["name"]] = service["spec"]["selector"]
        if service["metadata"]["labels"].get(COMPONENT) == "serving":
            found.late.add(service["metadata"]["name"])
    main, gateway = (STANDALONE, STANDALONE) if is_standalone else ("registry", "gateway")
    for component in {main, gateway}:
        if component not in by_component:
            raise ReleaseUnclear(f"release {name} in {namespace} has no Service of {component}")
        _container(workloads, by_component[component])
    _add_forwards(found, services, workloads, by_component[gateway]["metadata"]["name"])
    _read_credentials(
        cluster,
        namespace,
        found,
        _container(workloads, by_component[main]),
        _container(workloads, by_component[gateway]),
        wanted,
    )
    _read_tls(cluster, namespace, found, workloads[by_component[main]["metadata"]["name"]], wanted)
    return found


def _items(cluster: Cluster, path: str, selector: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = cluster.get(path, labelSelector=selector).get("items") or []
    return items


def _missing(cluster: Cluster, namespace: str, name: str) -> ReleaseMissing:
    services = _items(cluster, f"/api/v1/namespaces/{namespace}/services", PART_OF)
    others = ", ".join(sorted({service["metadata"]["labels"].get(INSTANCE, "") for service in services}))
    known = f"it has: {others}" if others else "it has none; `helm list --all-namespaces` says where they are"
    return ReleaseMissing(
        f"namespace {namespace} of {cluster.kube_context} has no release {name!r} of Anneal ({known})"
    )


def _workloads(cluster: Cluster, namespace: str, name: str, is_standalone: bool) -> dict[str, dict[str, Any]]:
    """`Service -> pod template`; a workload is called like its Service."""
    kind = "statefulsets" if is_standalone else "deployments"
    items = _items(cluster, f"/apis/apps/v1/namespaces/{namespace}/{kind}", f"{INSTANCE}={name},{PART_OF}")
    return {item["metadata"]["name"]: item["spec"]["template"]["spec"] for item in items}


def _container(workloads: Mapping[str, dict[str, Any]], service: Mapping[str, Any]) -> dict[str, Any]:
    """The container of a Service's pods.

    Raises:
        ReleaseUnclear: there is no workload of that name.
    """
    name = service["metadata"]["name"]
    if name not in workloads:
        raise ReleaseUnclear(f"there is no workload {name} beside the Service {name}: is the release being deleted?")
    container: dict[str, Any] = workloads[name]["containers"][0]
    return container


def _variable(container: Mapping[str, Any], name: str) -> str:
    values = [one.get("value", "") for one in container.get("env") or () if one["name"] == name]
    return str(values[-1]) if values else ""


def _add_forwards(
    found: ReleaseAccess, services: list[dict[str, Any]], workloads: Mapping[str, dict[str, Any]], gateway: str
) -> None:
    """Fill in a forward for each address of a client."""
    addresses = _json(_variable(workloads[gateway]["containers"][0], "ANNEAL_ADDRESSES")) or {}
    default_serving = str(addresses.get("serving", "")).partition(":")[0]
    for service in services:
        labels, name = service["metadata"]["labels"], service["metadata"]["name"]
        ports = {port["name"] for port in service["spec"]["ports"]}
        component = labels.get(COMPONENT, "")
        if "http" in ports:
            found.forwards["http"] = Forward(service=name, port="http")
        if "grpc" not in ports:
            continue
        forward = Forward(service=name, port="grpc")
        if component == "serving":
            preload = _json(_variable(_container(workloads, service), "ANNEAL_SERVING__PRELOAD"))
            for model in preload or ():
                found.forwards[f"serving/{model}"] = forward
            if name == default_serving:
                found.forwards["serving"] = forward
        elif component in (STANDALONE, *GRPC_SERVICES):
            found.forwards[component] = forward


def _read_credentials(
    cluster: Cluster,
    namespace: str,
    found: ReleaseAccess,
    main: Mapping[str, Any],
    gateway: Mapping[str, Any],
    wanted: Wanted,
) -> None:
    if wanted.token:
        data, key = _secret_of(cluster, namespace, main, "ANNEAL_TOKENS", "--token-file")
        tokens = _json(data.get(key, b"").decode(errors="replace"))
        if not isinstance(tokens, list) or not tokens:
            raise ReleaseUnclear(f"key {key} of the secret behind ANNEAL_TOKENS is no JSON list of tokens")
        found.token = str(tokens[0])
    if wanted.api_key or wanted.token:
        data, key = _secret_of(cluster, namespace, gateway, "ANNEAL_GATEWAY__KEYS", "--api-key-file and --token-file")
        keys = _json(data.get(key, b"").decode(errors="replace"))
        found.keys = [one for one in keys or () if isinstance(one, dict)]
        generated = data.get("api-key", b"").decode(errors="replace").strip()
        if wanted.api_key and generated and found.takes(generated):
            found.api_key = generated


def _secret_of(
    cluster: Cluster, namespace: str, container: Mapping[str, Any], variable: str, instead: str
) -> tuple[Mapping[str, bytes], str]:
    """The secret that a variable comes from, and the key in it."""
    for one in container.get("env") or ():
        reference = (one.get("valueFrom") or {}).get("secretKeyRef")
        if one["name"] == variable and reference:
            return _secret(cluster, namespace, reference["name"], instead), reference["key"]
    raise ReleaseUnclear(f"container {container.get('name')} takes {variable} from no secret; give {instead}")


def _secret(cluster: Cluster, namespace: str, name: str, instead: str) -> Mapping[str, bytes]:
    try:
        secret = cluster.get(f"/api/v1/namespaces/{namespace}/secrets/{name}")
    except ClusterDenied as error:
        raise SecretDenied(f"{error}; ask for `get` on it, or give {instead}") from None
    return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}


def _read_tls(cluster: Cluster, namespace: str, found: ReleaseAccess, pod: Mapping[str, Any], wanted: Wanted) -> None:
    """Fill in the certificates, where the services have TLS."""
    container = pod["containers"][0]
    if not _variable(container, "ANNEAL_TLS__CERT"):
        return
    volumes = [one["secret"] for one in pod.get("volumes") or () if one["name"] == "tls" and one.get("secret")]
    if not volumes:
        raise ReleaseUnclear("the services have TLS, and no volume `tls` of a secret: give --ca")
    paths = {item["path"]: item["key"] for item in volumes[0].get("items") or ()}
    is_mutual = _variable(container, "ANNEAL_TLS__MUTUAL").lower() == "true"
    if not wanted.ca and not is_mutual:
        return
    data = _secret(cluster, namespace, volumes[0]["secretName"], "--ca (and --cert and --key)")
    names = ["ca.crt"] + (["tls.crt", "tls.key"] if is_mutual else [])
    found.tls = {name: data[paths.get(name, name)] for name in names if paths.get(name, name) in data}
    if "ca.crt" not in found.tls:  # the services trust the system's authorities, and so does the client
        found.tls["ca.crt"] = _system_authorities()


def _system_authorities() -> bytes:
    path = ssl.get_default_verify_paths().cafile
    if path is None:
        raise ReleaseUnclear("the secret of the certificates has no ca.crt, and this machine no authorities: give --ca")
    with open(path, "rb") as file:
        return file.read()


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
