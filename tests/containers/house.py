"""Every service in a container of its own, as a cluster would run it, on one network that leads nowhere else."""

from __future__ import annotations

import hashlib
import json
import random
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT

EXAMPLES = "/opt/anneal/examples"
"""Where the standalone image has the examples."""
SERVICES = ("registry", "ingestion", "synthesis", "curation", "training", "serving", "evaluation")
TARGETS = {
    **{service: service for service in SERVICES},
    "training": "training-cpu",
    "serving": "serving-cpu",
    "gateway": "gateway",
    "s3": "test-s3",
    "postgres": "test-postgres",
    "cli": "standalone",
}
"""`name on the network -> image`, in no particular order."""
HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--user=10001:10001")
GRPC_PORT = 7600
METRICS_PORT = 7601
HTTP_PORT = 8000
S3_PORT = 5000
PROJECT = "python-docs"
START_S = 180
TAG = "test"
# Waits inside the network: for every port that is named, and for SERVING from every gRPC server.
WAIT = """
import json, socket, sys, time
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
deadline = time.monotonic() + {limit}
for host, port, is_grpc in json.loads(sys.argv[1]):
    while True:
        try:
            socket.create_connection((host, port), 2).close()
            if is_grpc:
                with grpc.insecure_channel(f"{{host}}:{{port}}") as channel:
                    call = [("authorization", "Bearer " + sys.argv[2])]
                    asked = health_pb2_grpc.HealthStub(channel).Check(
                        health_pb2.HealthCheckRequest(), timeout=5, metadata=call
                    )
                    assert asked.status == health_pb2.HealthCheckResponse.SERVING
            break
        except (OSError, grpc.RpcError, AssertionError) as error:
            if time.monotonic() > deadline:
                sys.exit(f"{{host}}:{{port}} is not there: {{error!r}}")
            time.sleep(0.5)
"""
# Imports every module of a package; prints how many, and how long it took.
IMPORT_ALL = """
import importlib, pkgutil, sys, time
start, names = time.perf_counter(), []
for package in sys.argv[1:]:
    found = importlib.import_module(package)
    names += [m.name for m in pkgutil.walk_packages(found.__path__, package + ".") if not m.name.endswith("__main__")]
for name in names:
    if name not in ("anneal.kit.testing", "anneal.registry.adapters.sql.migrations.env"):
        importlib.import_module(name)
print(len(names), "modules in", round(time.perf_counter() - start, 1), "s")
"""


def find_tool() -> str:
    """The tool that runs containers here; skips by name where none does."""
    told = []
    for tool in ("podman", "docker"):
        if shutil.which(tool) is None:
            told.append(f"{tool} is not installed")
            continue
        done = subprocess.run([tool, "info"], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return tool
        told.append(f"{tool} does not work: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    pytest.skip(f"no container can run here: {'; '.join(told)}")


class House:
    """A network with containers on it; everything it makes carries its name, and `close` removes all of it."""

    def __init__(self, tool: str, images: Mapping[str, str], folder: Path) -> None:
        self.tool = tool
        self.images = images
        self.folder = folder
        self.name = f"anneal-test-{secrets.token_hex(4)}"
        self.token = secrets.token_urlsafe(24)
        self.key = secrets.token_urlsafe(24)
        self._password = secrets.token_urlsafe(24)
        self._net = f"10.{random.SystemRandom().randint(200, 250)}.{random.SystemRandom().randint(0, 255)}"
        self._started: list[str] = []

    def call(self, *words: str, timeout: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the tool; by default a failure is the test's, with what the tool said."""
        done = subprocess.run([self.tool, *words], capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise AssertionError(f"{self.tool} {' '.join(words[:3])} ...: {(done.stderr or done.stdout)[-3000:]}")
        return done

    def address(self, name: str) -> str:
        """A container's address on the network; fixed, because not every setup of podman resolves names."""
        return f"{self._net}.{10 + list(TARGETS).index(name)}"

    def _run(self, name: str, *, detach: bool) -> list[str]:
        hosts = [f"--add-host={other}:{self.address(other)}" for other in TARGETS if other != name]
        return [
            *("run", "--detach" if detach else "--rm", "--name", f"{self.name}-{name}", "--hostname", name),
            *("--network", self.name, "--ip", self.address(name), *hosts, *HARDENED),
            # Podman would write to the journal, where there may be none.
            *(("--log-driver", "k8s-file") if self.tool == "podman" else ()),
            *("--tmpfs", "/tmp:rw,exec,mode=1777", "--volume", f"{self.name}-{name}:/data", "--shm-size", "1g"),
        ]

    def start(self, name: str, environment: Mapping[str, str], *options: str, command: Sequence[str] = ()) -> None:
        """Start a container that stays."""
        told = [word for key, value in environment.items() for word in ("--env", f"{key}={value}")]
        self._started.append(name)
        self.call(*self._run(name, detach=True), *options, *told, self.images[TARGETS[name]], *command)

    def ask(
        self, *words: str, entrypoint: str = "", options: Sequence[str] = (), timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line, or another program of its image, on the network and wait for its end."""
        environment = {
            "ANNEAL_ADDRESSES": self.addresses(),
            "ANNEAL_TOKEN": self.token,
            "ANNEAL_HTTP": f"gateway:{HTTP_PORT}",
            "ANNEAL_API_KEY": self.key,
        }
        told = [word for key, value in environment.items() for word in ("--env", f"{key}={value}")]
        program = ["--entrypoint", entrypoint] if entrypoint else []
        image = self.images[TARGETS["cli"]]
        return self.call(
            *self._run("cli", detach=False), *options, *told, *program, image, *words, timeout=timeout, check=False
        )

    def addresses(self) -> str:
        """`ANNEAL_ADDRESSES`, for services and for the command line."""
        return json.dumps({service: f"{service}:{GRPC_PORT}" for service in SERVICES})

    def wait_for(self, *servers: tuple[str, int, bool]) -> None:
        """Wait until they listen; of gRPC servers, until they serve."""
        code = WAIT.format(limit=START_S)
        done = self.ask(
            "-c", code, json.dumps(servers), self.token, entrypoint="/opt/anneal/bin/python", timeout=START_S + 60
        )
        assert done.returncode == 0, f"{done.stderr[-2000:]}\n{self.logs()}"

    def open(self) -> None:
        """Make the network, start everything, and wait until it serves."""
        self.call("network", "create", "--internal", "--subnet", f"{self._net}.0/24", self.name)
        self.start("postgres", {"POSTGRES_PASSWORD": self._password})
        self.start("s3", {}, "--stop-signal=SIGKILL")  # it would not hear another one
        self.wait_for(("postgres", 5432, False), ("s3", S3_PORT, False))
        made = self.ask(
            "-c",
            f"import urllib.request as r; r.urlopen(r.Request('http://s3:{S3_PORT}/anneal', method='PUT')).close()",
            entrypoint="/opt/anneal/bin/python",
        )
        assert made.returncode == 0, made.stderr
        for service in SERVICES:
            options: list[str] = []
            if service == "training":  # where base models are imported from
                source = ROOT / "examples" / "tiny-base"
                options = ["--volume", f"{source}:{EXAMPLES}/tiny-base:ro"]
            self.start(service, {**self._common(), **OWN.get(service, {})}, *options)
        key = {"name": "tests", "sha256": hashlib.sha256(self.key.encode()).hexdigest(), "project": PROJECT}
        self.start(
            "gateway",
            {
                **self._common(),
                "ANNEAL_GATEWAY__HOST": "0.0.0.0",
                "ANNEAL_GATEWAY__PORT": str(HTTP_PORT),
                "ANNEAL_GATEWAY__KEYS": json.dumps([key]),
            },
        )
        self.wait_for(*((service, GRPC_PORT, True) for service in SERVICES), ("gateway", HTTP_PORT, False))

    def _common(self) -> dict[str, str]:
        options = {
            "endpoint": f"http://s3:{S3_PORT}",
            "access_key_id": "testing",
            "secret_access_key": "testing",
            "region": "us-east-1",
            "client_options": {"allow_http": True},
        }
        return {
            "ANNEAL_TOKENS": json.dumps([self.token]),
            "ANNEAL_ADDRESSES": self.addresses(),
            "ANNEAL_DATABASE_URL": f"postgresql+asyncpg://anneal:{self._password}@postgres:5432/postgres",
            "ANNEAL_STORE__URL": "s3://anneal/store",
            "ANNEAL_STORE__OPTIONS": json.dumps(options),
            "ANNEAL_GRPC__HOST": "0.0.0.0",
            "ANNEAL_GRPC__PORT": str(GRPC_PORT),
            "ANNEAL_METRICS__HOST": "0.0.0.0",
            "ANNEAL_METRICS__PORT": str(METRICS_PORT),
            "ANNEAL_METRICS__PUBLIC": "true",
        }

    def logs(self, lines: int = 15) -> str:
        """The last lines of every container."""
        told = []
        for name in self._started:
            done = self.call("logs", "--tail", str(lines), f"{self.name}-{name}", check=False)
            told.append(f"---- {name}\n{done.stdout}{done.stderr}")
        return "\n".join(told)

    def python(self, name: str, code: str) -> str:
        """Run code in a running container; what it prints."""
        return self.call("exec", f"{self.name}-{name}", "/opt/anneal/bin/python", "-c", code).stdout.strip()

    def close(self) -> None:
        """Stop and remove everything that carries its name, whatever became of it."""
        names = [f"{self.name}-{name}" for name in (*reversed(self._started), "cli")]
        self.call("stop", "-t", "20", *names, timeout=300, check=False)
        for words in (("rm", "--force", "--volumes"), ("volume", "rm", "--force")):
            for name in names:
                self.call(*words, name, check=False)
        self.call("network", "rm", self.name, check=False)

    def left(self) -> str:
        """What still carries its name."""
        kinds = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
        return "".join(self.call(*kind, "--quiet", "--filter", f"name={self.name}").stdout for kind in kinds)


OWN = {
    "training": {
        "ANNEAL_TRAINING__LOCAL_RAY": "true",
        "ANNEAL_TRAINING__MODEL_FOLDERS": json.dumps([EXAMPLES]),
    },
}
"""What a service is told beyond what all are."""


def build_images() -> dict[str, str]:
    """Build the images, saying so on the way; `target -> image name`."""
    targets = sorted(set(TARGETS.values()))
    command = [sys.executable, str(ROOT / "deploy" / "images" / "build.py"), *targets, "--tag", TAG]
    done = subprocess.run(command, check=False, cwd=ROOT)
    assert done.returncode == 0, "the images were not built; the lines above say why"
    return {target: _name_of(target) for target in targets}


def _name_of(target: str) -> str:
    service, _, flavour = target.partition("-")
    return f"anneal/{service}:{TAG}{'-' + flavour if flavour else ''}"
