"""A kubelet by podman: a pod that the chart or the launcher makes becomes a container, field by field.

A field that is not carried over fails the test, so that nothing of a pod is silently left out. Sources: Kubernetes API
reference (PodSpec, Container) and podman-run(1).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anneal.kit.quantities import parse_quantity

Spec = Mapping[str, Any]
ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"
POD_FIELDS = {
    *("containers", "volumes", "securityContext", "restartPolicy", "terminationGracePeriodSeconds"),
    *("serviceAccountName", "automountServiceAccountToken", "enableServiceLinks", "activeDeadlineSeconds"),
}
CONTAINER_FIELDS = {
    *("name", "image", "imagePullPolicy", "command", "env", "envFrom", "ports", "resources", "securityContext"),
    *("volumeMounts", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle", "terminationMessagePolicy"),
}
SECURITY_FIELDS = {
    *("runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "fsGroupChangePolicy", "seccompProfile"),
    *("allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"),
}


@dataclass
class Cluster:
    """What pods get from their cluster.

    Attributes:
        network: podman's network.
        addresses: `name -> IP address` of the services.
        secrets: `name -> key -> value`.
        environment: variables that every pod gets, such as where the API is.
        account: files of the service account, for pods that mount its token.
        folder: where volumes and claims are, on this machine.
    """

    network: str
    folder: Path
    addresses: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, Mapping[str, str]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    account: Mapping[str, str] = field(default_factory=dict)


class Podman:
    """The tool, called with what has to be said to it each time."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def call(self, *words: str, timeout: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run it; by default a failure is the test's, with what the tool printed."""
        done = subprocess.run(["podman", *words], capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise AssertionError(f"podman {' '.join(words[:3])} ...: {(done.stderr or done.stdout)[-3000:]}")
        return done

    def name(self, pod: str) -> str:
        """The container of a pod."""
        return f"{self.prefix}-{pod}"

    def logs(self, pod: str, lines: int = 20) -> str:
        """The last lines of a pod."""
        done = self.call("logs", "--tail", str(lines), self.name(pod), check=False)
        return f"---- {pod}\n{done.stdout}{done.stderr}"

    def remove_all(self) -> None:
        """Remove every container that carries the prefix."""
        listed = self.call("ps", "--all", "--quiet", "--filter", f"name=^{self.prefix}-").stdout.split()
        if listed:
            self.call("rm", "--force", "--time", "5", "--volumes", *listed, timeout=300, check=False)


def arguments(podman: Podman, cluster: Cluster, pod: str, spec: Spec, *, ip: str = "") -> list[str]:
    """The words behind `podman run` that make a container of a pod.

    Args:
        podman: gives the container its name.
        cluster: what the pod refers to.
        pod: the pod's name.
        spec: of the pod, with one container.
        ip: its address; empty for any.
    """
    _only(spec, POD_FIELDS, "pod")
    (container,) = spec["containers"]
    _only(container, CONTAINER_FIELDS, "container")
    words = [
        "--name",
        podman.name(pod),
        "--hostname",
        pod[:63],
        "--network",
        cluster.network,
        "--log-driver",
        "k8s-file",
    ]
    if ip:
        words += ["--ip", ip]
    words += [f"--add-host={name}:{address}" for name, address in cluster.addresses.items()]
    words += list(_security(spec.get("securityContext", {}), container.get("securityContext", {})))
    words += list(_limits(container["resources"]))
    for name, value in environment(cluster, container).items():
        words += ["--env", f"{name}={value}"]
    words += list(_mounts(cluster, pod, spec, container))
    if "command" in container:
        words += ["--entrypoint", json.dumps(container["command"])]
    return [*words, container["image"]]


def environment(cluster: Cluster, container: Spec) -> dict[str, str]:
    """The variables of a container, with what its secrets hold."""
    found = dict(cluster.environment)
    for source in container.get("envFrom", []):
        found |= cluster.secrets[source["secretRef"]["name"]]
    for item in container.get("env", []):
        if "valueFrom" in item:
            where = item["valueFrom"]["secretKeyRef"]
            found[item["name"]] = cluster.secrets[where["name"]][where["key"]]
        else:
            found[item["name"]] = item["value"]
    return found


def _only(thing: Spec, known: set[str], what: str) -> None:
    unknown = {name for name, value in thing.items() if value not in (None, {}, [])} - known
    assert not unknown, f"the kubelet of the tests carries no {sorted(unknown)} of a {what} over"


def _security(pod: Spec, container: Spec) -> Iterator[str]:
    _only(pod, SECURITY_FIELDS, "pod's securityContext")
    _only(container, SECURITY_FIELDS, "container's securityContext")
    assert pod["runAsNonRoot"]
    yield f"--user={pod['runAsUser']}:{pod['runAsGroup']}"
    yield f"--group-add={pod['fsGroup']}"
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    if container.get("readOnlyRootFilesystem"):
        yield from ("--read-only", "--read-only-tmpfs=false")
    if container.get("allowPrivilegeEscalation") is False:
        yield "--security-opt=no-new-privileges"
    for name in container.get("capabilities", {}).get("drop", []):
        yield f"--cap-drop={name}"


def _limits(resources: Spec) -> Iterator[str]:
    _only(resources, {"requests", "limits"}, "container's resources")
    limits = resources.get("limits", {})
    _only(limits, {"cpu", "memory"}, "container's limits")
    if "memory" in limits:
        size = int(parse_quantity(limits["memory"]))
        yield from ("--memory", str(size), "--memory-swap", str(size))
    if "cpu" in limits:
        yield from ("--cpus", str(min(float(parse_quantity(limits["cpu"])), float(os.cpu_count() or 1))))


def _mounts(cluster: Cluster, pod: str, spec: Spec, container: Spec) -> Iterator[str]:
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    group = spec["securityContext"]["fsGroup"]
    for mount in container.get("volumeMounts", []):
        _only(mount, {"name", "mountPath", "subPath", "readOnly"}, "volumeMount")
        volume = volumes[mount["name"]]
        if volume.get("emptyDir", {}).get("medium") == "Memory":
            size = int(parse_quantity(volume["emptyDir"]["sizeLimit"]))
            assert mount["mountPath"] == "/dev/shm"
            yield from ("--shm-size", str(size))
            continue
        folder = _folder(cluster, pod, volume, group)
        if "subPath" in mount:
            folder = folder / mount["subPath"]
            _shared(folder, group)
        yield from ("--volume", f"{folder}:{mount['mountPath']}{':ro' if mount.get('readOnly') else ''}")
    if spec.get("automountServiceAccountToken"):
        folder = cluster.folder / "accounts" / pod
        _write(folder, cluster.account, group)
        yield from ("--volume", f"{folder}:{ACCOUNT_DIR}:ro")


def _folder(cluster: Cluster, pod: str, volume: Spec, group: int) -> Path:
    """The folder of this machine that a volume is."""
    folder: Path
    if "secret" in volume:
        secret = volume["secret"]
        contents = cluster.secrets[secret["secretName"]]
        items = secret.get("items") or [{"key": key, "path": key} for key in contents]
        folder = cluster.folder / "secrets" / pod / volume["name"]
        _write(folder, {item["path"]: contents[item["key"]] for item in items}, group)
        return folder
    if "persistentVolumeClaim" in volume:
        folder = cluster.folder / "claims" / volume["persistentVolumeClaim"]["claimName"]
    else:
        assert "emptyDir" in volume, f"the kubelet of the tests knows no volume {volume}"
        folder = cluster.folder / "volumes" / pod / volume["name"]
    _shared(folder, group)
    return folder


def _shared(folder: Path, group: int) -> None:
    """A folder as a kubelet makes it for `fsGroup`: the group's, and what is made in it, too."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, 0, group)
    folder.chmod(0o2777)


def _write(folder: Path, contents: Mapping[str, str], group: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in contents.items():
        path = folder / name
        path.write_text(text)
        os.chown(path, 0, group)
        path.chmod(0o440)


@dataclass(frozen=True, slots=True)
class Served:
    """A pod that serves, and how its probes find it."""

    pod: str
    ip: str
    container: Spec

    def url(self, probe: str) -> str:
        """Where a probe asks."""
        get = self.container[f"{probe}Probe"]["httpGet"]
        ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        return f"http://{self.ip}:{ports[get['port']]}{get['path']}"


def wait_ready(podman: Podman, served: Sequence[Served], limit_s: float) -> None:
    """Probe pods as a kubelet does until all are ready; one that would be restarted fails the test."""
    deadline = time.monotonic() + limit_s
    waiting, last = list(served), dict.fromkeys((one.pod for one in served), "never probed")
    for one in list(waiting):
        _wait_started(podman, one)
    while waiting:
        for one in list(waiting):
            is_well, line = _asked(one.url("readiness"))
            last[one.pod] = line
            if is_well:
                waiting.remove(one)
                continue
            _check_running(podman, one)
            alive, said = _asked(one.url("liveness"))
            assert alive, f"{one.pod} would be restarted: {said}\n{podman.logs(one.pod)}"
        if waiting and time.monotonic() > deadline:
            texts = [f"{one.pod}: {last[one.pod]}\n{podman.logs(one.pod)}" for one in waiting]
            raise AssertionError(f"not ready within {limit_s:g} s:\n" + "\n".join(texts))
        time.sleep(1)


def _wait_started(podman: Podman, one: Served) -> None:
    """Probe a pod's start within the bounds of its startup probe."""
    probe = one.container["startupProbe"]
    deadline = time.monotonic() + probe["periodSeconds"] * probe["failureThreshold"]
    while True:
        is_well, line = _asked(one.url("startup"))
        if is_well:
            return
        _check_running(podman, one)
        if time.monotonic() > deadline:
            raise AssertionError(f"{one.pod} would be restarted while it starts: {line}\n{podman.logs(one.pod, 40)}")
        time.sleep(0.5)


def _check_running(podman: Podman, one: Served) -> None:
    """Fail the test where a pod has ended."""
    state = podman.call("inspect", "--format", "{{.State.Status}}", podman.name(one.pod)).stdout.strip()
    assert state == "running", f"{one.pod} is {state}\n{podman.logs(one.pod)}"


def _asked(url: str) -> tuple[bool, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return True, answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        return False, error.read().decode().strip()
    except OSError as error:
        return False, str(error)
