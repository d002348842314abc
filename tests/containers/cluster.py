"""A release of the chart on containers: its own rendered pods, its jobs, PostgreSQL and an S3 server, on one network.

The pods of services run as the chart renders them (`kubelet.py`). The pods of jobs are made by the services' launchers,
over TLS and with an account's token, from the tests' Kubernetes API, whose node is this machine. The network leads
nowhere else.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import secrets
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc

from tests.chart.documents import created_secrets
from tests.chart.rendering import Object, Pod, objects, of_kind, overlay, pods, services, situation
from tests.containers.kubelet import Cluster, Podman, Served, arguments, wait_ready
from tests.fixtures.certificates import Authority
from tests.fixtures.kubernetes_api import NAMESPACE, ApiServer, Thing, api_server
from tests.fixtures.kubernetes_node import Node, Running

RELEASE = "anneal"
PROJECT = "python-docs"
TAG = "test"
IMAGES = {"image": {"registry": "localhost", "tag": TAG}}
S3 = "minio.minio.svc"
DATABASE = "db"
START_S = 300
GATEWAY_PORT, GRPC_PORT = 8080, 50051


class PodmanNode(Node):
    """The node whose pods are containers."""

    def __init__(self, api: ApiServer, folder: Path, podman: Podman, cluster: Cluster) -> None:
        super().__init__(api, folder)
        self._podman, self._cluster = podman, cluster

    def _start_process(self, pod: Thing, mounted: Mapping[str, str], log: Path) -> Running:
        name = pod["metadata"]["name"]
        for volume in pod["spec"]["volumes"]:
            if "secret" in volume and (found := self._api.find("secrets", volume["secret"]["secretName"])):
                self._cluster.secrets[found["metadata"]["name"]] = found["stringData"]
        words = ["podman", "run", *arguments(self._podman, self._cluster, name, pod["spec"])]
        with log.open("wb") as out:
            process = subprocess.Popen(words, stdout=out, stderr=out, start_new_session=True)
        return Running(process, log)

    def stop(self) -> None:
        """Also the containers that their client left behind."""
        super().stop()
        for name in self._running:
            self._podman.call("rm", "--force", "--time", "2", self._podman.name(name), check=False)


@dataclass(frozen=True, slots=True)
class Access:
    """How somebody outside reaches the release, as environment variables of the command line."""

    environment: Mapping[str, str]

    def anneal(self, *words: str, timeout: float = 2400, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the command line on this machine."""
        return subprocess.run(
            [sys.executable, "-m", "anneal.cli", *words],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **self.environment, **more},
            check=False,
        )


class ChartSystem:
    """A release of one of the chart's situations."""

    def __init__(self, name: str, folder: Path, values: Mapping[str, Any] | None = None) -> None:
        self.situation = name
        self.folder = folder
        self.podman = Podman(f"anneal-{secrets.token_hex(4)}")
        self.key = f"ak-{secrets.token_hex(24)}"
        self.things: list[Object] = objects(overlay(situation(name), overlay(IMAGES, values or {})), name=RELEASE)
        numbers = random.SystemRandom()
        self._net = f"10.{numbers.randint(200, 250)}.{numbers.randint(0, 255)}"
        self._free = iter(range(10, 60))
        self.cluster = Cluster(network=f"{self.podman.prefix}-net", folder=folder)
        self.api: ApiServer | None = None
        self.served: dict[str, Served] = {}
        self._open = ExitStack()

    # -- life ----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start everything, in the order in which Helm does, and wait until it is ready but for a base model."""
        words = ("--internal", "--subnet", f"{self._net}.0/24", "--ip-range", f"{self._net}.128/25")
        self.podman.call("network", "create", *words, self.cluster.network)
        self._open.callback(self.podman.call, "network", "rm", "--force", self.cluster.network, check=False)
        self._open.callback(self.podman.remove_all)
        self._read_secrets()
        for pod in services(self.things):
            self._name(pod)
        if self.situation.startswith("distributed"):
            self._start_surroundings()
            self._start_api()
            self._run_hooks()
        for pod in services(self.things):
            self._start(pod)
        wait_ready(self.podman, [one for name, one in self.served.items() if "serving" not in name], START_S)

    def close(self) -> None:
        """Stop pods as a cluster does, then remove everything that carries the release's name."""
        self._open.close()
        left = self.podman.call("ps", "--all", "--quiet", "--filter", f"name=^{self.podman.prefix}-").stdout
        assert left == ""

    def stop(self, name: str) -> int:
        """Stop a pod as a cluster does: preStop, SIGTERM, and SIGKILL after its grace; its exit code."""
        served, (pod,) = (
            self.served[name],
            [pod for pod in services(self.things) if pod.owner["metadata"]["name"] == name],
        )
        time.sleep(served.container["lifecycle"]["preStop"]["sleep"]["seconds"])
        grace_s = pod.spec["terminationGracePeriodSeconds"]
        self.podman.call("stop", "--time", str(grace_s), self.podman.name(served.pod), timeout=grace_s + 60)
        shown = self.podman.call("inspect", "--format", "{{.State.ExitCode}}", self.podman.name(served.pod)).stdout
        return int(shown)

    def wait_for_models(self) -> None:
        """Wait until the servers of every base model are ready."""
        wait_ready(self.podman, [one for name, one in self.served.items() if "serving" in name], START_S)

    # -- what tests do with it -----------------------------------------------------------------------------------

    def access(self) -> Access:
        """How to reach it from this machine."""
        token = json.loads(self.cluster.secrets[self._auth_secret()]["tokens"])[0]
        found = {"ANNEAL_TOKEN": token, "ANNEAL_API_KEY": self.key, "HOME": str(self.folder / "home")}
        (self.folder / "home").mkdir(exist_ok=True)
        if self.situation.startswith("standalone"):
            (one,) = self.served.values()
            return Access(
                {**found, "ANNEAL_ADDRESS": f"{one.ip}:{GRPC_PORT}", "ANNEAL_HTTP": f"{one.ip}:{GATEWAY_PORT}"}
            )
        addresses = {}
        for name, one in self.served.items():
            service = name.removeprefix(f"{RELEASE}-").partition("-")[0]
            if service != "gateway":
                addresses[service] = f"{one.ip}:{GRPC_PORT}"
        gateway = self.served[f"{RELEASE}-gateway"]
        return Access(
            {**found, "ANNEAL_ADDRESSES": json.dumps(addresses), "ANNEAL_HTTP": f"{gateway.ip}:{GATEWAY_PORT}"}
        )

    def helm_test(self) -> tuple[int, str]:
        """Run the pod of `helm test`; its exit code and its log."""
        (pod,) = [pod for pod in pods(self.things) if pod.component == "test"]
        name = f"test-{secrets.token_hex(3)}"
        words = arguments(self.podman, self.cluster, name, pod.spec)
        ran = self.podman.call("run", "--rm", *words, timeout=pod.spec["activeDeadlineSeconds"], check=False)
        return ran.returncode, ran.stdout + ran.stderr

    def python(self, name: str, code: str) -> str:
        """Run code in a running container; what it prints."""
        return self.podman.call("exec", self.podman.name(self.served[name].pod), "python", "-c", code).stdout.strip()

    def logs(self) -> str:
        """The last lines of every pod."""
        return "\n".join(self.podman.logs(one.pod) for one in self.served.values())

    def operations(self, service: str) -> list[operations_pb2.Operation]:
        """The operations of a service."""
        address = self.served.get(f"{RELEASE}-{service}") or next(iter(self.served.values()))
        token = json.loads(self.cluster.secrets[self._auth_secret()]["tokens"])[0]
        with grpc.insecure_channel(f"{address.ip}:{GRPC_PORT}") as channel:
            listed = operations_pb2_grpc.OperationsStub(channel).ListOperations(
                operations_pb2.ListOperationsRequest(name=f"projects/{PROJECT}"),
                metadata=[("authorization", f"Bearer {token}")],
                timeout=20,
            )
        return list(listed.operations)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _auth_secret(self) -> str:
        return next(name for name, values in self.cluster.secrets.items() if "tokens" in values)

    def _read_secrets(self) -> None:
        """What the README's commands create, or the chart itself; with this network's addresses and a key of ours."""
        known = {name: dict(values) for name, values in created_secrets().items()}
        for thing in of_kind(self.things, "Secret"):
            import base64

            known[thing["metadata"]["name"]] = {
                key: base64.b64decode(value).decode() for key, value in thing["data"].items()
            }
        if self.situation.startswith("standalone"):
            known = {name: values for name, values in known.items() if "api-key" in values}
            (only,) = known.values()
            self.key = only["api-key"]
        key = {"name": "tests", "sha256": hashlib.sha256(self.key.encode()).hexdigest(), "project": PROJECT}
        for values in known.values():
            if "gateway-keys" in values:
                values["gateway-keys"] = json.dumps([key])
            if "url" in values:
                values["url"] = f"postgresql+asyncpg://anneal:{secrets.token_hex(8)}@{DATABASE}:5432/postgres"
            if "AWS_ACCESS_KEY_ID" in values:
                values |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        self.cluster.secrets |= known

    def _address(self) -> str:
        return f"{self._net}.{next(self._free)}"

    def _name(self, pod: Pod) -> None:
        """Give a pod an address under every name that its service has in a cluster."""
        name = pod.owner["metadata"]["name"]
        ip = self._address()
        for ending in ("", f".{NAMESPACE}", f".{NAMESPACE}.svc", f".{NAMESPACE}.svc.cluster.local"):
            self.cluster.addresses[f"{name}{ending}"] = ip
        self.served[name] = Served(f"{name}-0", ip, pod.container)

    def _start(self, pod: Pod) -> None:
        name = pod.owner["metadata"]["name"]
        one = self.served[name]
        spec = copy.deepcopy(dict(pod.spec))
        for claim in pod.owner["spec"].get("volumeClaimTemplates", []):
            claimed = {"claimName": f"{claim['metadata']['name']}-{one.pod}"}
            spec["volumes"].append({"name": claim["metadata"]["name"], "persistentVolumeClaim": claimed})
        self.podman.call("run", "--detach", *arguments(self.podman, self.cluster, one.pod, spec, ip=one.ip))

    def _start_surroundings(self) -> None:
        """PostgreSQL, and an S3 server with the bucket."""
        (url,) = [values["url"] for values in self.cluster.secrets.values() if "url" in values]
        password = url.partition("://")[2].partition(":")[2].partition("@")[0]
        common = ("run", "--detach", "--network", self.cluster.network, "--log-driver", "k8s-file")
        self.cluster.addresses |= {DATABASE: self._address(), S3: self._address()}
        self.podman.call(
            *(*common, "--name", self.podman.name("db"), "--ip", self.cluster.addresses[DATABASE]),
            *("--env", f"POSTGRES_PASSWORD={password}", f"localhost/anneal/test:{TAG}-postgres"),
        )
        endpoint = next(
            json.loads(pod.env["ANNEAL_STORE__OPTIONS"] or "{}")["aws_endpoint"]
            for pod in services(self.things)
            if "ANNEAL_STORE__OPTIONS" in pod.env
        )
        port = endpoint.rpartition(":")[2]
        self.podman.call(
            *(*common, "--name", self.podman.name("s3"), "--ip", self.cluster.addresses[S3], "--stop-signal=SIGKILL"),
            # A host name with dots is no bucket.
            "--env=S3_IGNORE_SUBDOMAIN_BUCKETNAME=true",
            *("--entrypoint", json.dumps(["python", "-m", "moto.server", "--host", "0.0.0.0", "--port", port])),
            f"localhost/anneal/test:{TAG}-s3",
        )
        made = urllib.request.Request(f"http://{self.cluster.addresses[S3]}:{port}/anneal", method="PUT")
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(made, timeout=5).close()
                return
            except OSError:
                assert time.monotonic() < deadline, self.podman.logs("s3")
                time.sleep(0.5)

    def _start_api(self) -> None:
        """The Kubernetes API at the network's own end on this machine, and a node for the pods of jobs."""
        host = f"{self._net}.1"
        authority = Authority()
        cert, key = authority.sign(addresses=[host]).write(self.folder / "api")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(cert, key)
        self.api = self._open.enter_context(api_server(host, tls))
        for role in of_kind(self.things, "Role"):
            self.api.put("roles", copy.deepcopy(role), is_new=True)
        port = self.api.url.rpartition(":")[2]
        self.cluster.environment |= {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        self.cluster.account = {
            "token": self.api.token,
            "ca.crt": authority.pem.decode(),
            "namespace": NAMESPACE,
        }
        (self.folder / "node").mkdir()
        node = PodmanNode(self.api, self.folder / "node", self.podman, self.cluster)
        node.start()
        self._open.callback(node.stop)

    def _run_hooks(self) -> None:
        """The migration, before anything of the release is there; twice, because an upgrade runs it again."""
        for pod in pods(self.things):
            if pod.owner["kind"] == "Job":
                for number in range(2):
                    words = arguments(self.podman, self.cluster, f"migrate-{number}", pod.spec)
                    deadline = time.monotonic() + 60
                    while (ran := self.podman.call("run", "--rm", *words, check=False)).returncode:
                        assert time.monotonic() < deadline, ran.stdout + ran.stderr
