"""The chart on a real cluster: install, `helm test`, the small loop, upgrade, rollback, uninstall.

It needs, in the environment: `KUBECONFIG`; `ANNEAL_CLUSTER_PREFIX`, the path of images that the cluster can pull, as in
`registry.example/anneal`; and may have `ANNEAL_CLUSTER_TAG`. It makes a namespace of its own and deletes it. `kubectl`
must be on PATH: it forwards ports.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.small_loop import ROOT, small_recipe

CHART = ROOT / "charts" / "anneal"
NEEDED = ("KUBECONFIG", "ANNEAL_CLUSTER_PREFIX")
MISSING = [name for name in NEEDED if not os.environ.get(name)] + ([] if shutil.which("kubectl") else ["kubectl"])
START_S = 900

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(bool(MISSING), reason=f"no cluster to install the chart on: {', '.join(MISSING)} missing"),
]


@dataclass(frozen=True, slots=True)
class Release:
    """A release in a namespace of its own."""

    helm: Any
    namespace: str
    name: str = "loop"

    @property
    def pod(self) -> str:
        """The one pod of `standalone`."""
        return str(self.read("pod", "{.items[0].metadata.name}"))

    def values(self, **standalone: Any) -> dict[str, Any]:
        """Values of a small standalone system."""
        prefix, tag = os.environ["ANNEAL_CLUSTER_PREFIX"], os.environ.get("ANNEAL_CLUSTER_TAG", "")
        registry, _, path = prefix.partition("/")
        resources = {"requests": {"cpu": "1", "memory": "6Gi"}, "limits": {"memory": "12Gi"}}
        settings = {"serving": {"kv_cache_bytes": 256 << 20}, "jobs": {"max_running": 1}}
        own = {"resources": resources, "settings": settings, **standalone}
        return {"image": {"registry": registry, "prefix": path, "tag": tag}, "standalone": own}

    def kubectl(self, *words: str, **more: Any) -> bytes:
        """What kubectl says; what it complains about fails the test."""
        command = ["kubectl", "--namespace", self.namespace, *words]
        ran: subprocess.CompletedProcess[bytes] = subprocess.run(
            command, capture_output=True, timeout=600, check=False, **more
        )
        assert ran.returncode == 0, f"{' '.join(words)}: {ran.stderr.decode()}"
        return ran.stdout

    def read(self, kind: str, path: str) -> str:
        """A JSON path of the release's objects of a kind."""
        selector = f"app.kubernetes.io/instance={self.name}"
        return self.kubectl("get", kind, "--selector", selector, "--output", f"jsonpath={path}").decode()

    def secret(self, key: str) -> str:
        """A value of the secret that the chart made."""
        return base64.b64decode(self.read("secret", f"{{.items[0].data.{key}}}")).decode()

    @contextmanager
    def reached(self) -> Iterator[dict[str, str]]:
        """The environment of commands that call the system through forwarded ports."""
        command = ["kubectl", "--namespace", self.namespace, "port-forward", f"pod/{self.pod}", ":8080", ":50051"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forwarding:
            try:
                assert forwarding.stdout is not None
                ports: dict[str, str] = {}
                while len(ports) < 2:
                    line = forwarding.stdout.readline()
                    assert line, "kubectl port-forward ended"
                    if found := re.search(r"127\.0\.0\.1:(\d+) -> (\d+)", line):
                        ports[found[2]] = found[1]
                yield {
                    "ANNEAL_ADDRESS": f"127.0.0.1:{ports['50051']}",
                    "ANNEAL_HTTP": f"127.0.0.1:{ports['8080']}",
                    "ANNEAL_TOKEN": self.secret("token"),
                    "ANNEAL_API_KEY": self.secret("api-key"),
                    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                }
            finally:
                forwarding.terminate()


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    from helm_python import Config

    namespace = f"anneal-test-{uuid.uuid4().hex[:8]}"
    made = Release(Config(kubeconfig_path=os.environ["KUBECONFIG"], namespace=namespace), namespace)
    try:
        made.helm.install(
            CHART, made.name, made.values(), namespace=namespace, create_namespace=True, wait="watcher", timeout=START_S
        )
        yield made
    finally:
        subprocess.run(["kubectl", "delete", "namespace", namespace, "--wait=false"], check=False, timeout=60)


def anneal(environment: dict[str, str], *words: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "anneal.cli", *words],
        capture_output=True,
        text=True,
        timeout=2400,
        env={**os.environ, **environment},
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_helm_test_passes(release: Release) -> None:
    assert release.helm.test(release.name, timeout=START_S, logs=True)


def test_the_loop_runs(release: Release, tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    with release.reached() as environment:
        anneal(environment, "run", str(recipe), "--report", str(tmp_path / "report"))
    assert (tmp_path / "report" / "index.html").is_file()


def test_upgrade_and_rollback_keep_names_tokens_and_data(release: Release) -> None:
    with release.reached() as environment:
        before = anneal(environment, "--project", "python-docs", "--json", "deployments", "list")
    token = release.secret("token")
    assert "kind" in before
    changed = release.values(podAnnotations={"example.com/changed": "yes"})
    for number in range(2):
        if number:
            release.helm.rollback(release.name, wait="watcher", timeout=START_S)
        else:
            release.helm.upgrade(CHART, release.name, changed, wait="watcher", timeout=START_S)
        annotated = release.read("pod", r"{.items[0].metadata.annotations.example\.com/changed}")
        assert annotated == ("" if number else "yes")
        assert release.secret("token") == token
        with release.reached() as environment:
            assert anneal(environment, "--project", "python-docs", "--json", "deployments", "list") == before


def test_uninstall_leaves_only_the_claim_that_was_asked_to_stay_and_the_pod_of_the_test(release: Release) -> None:
    release.helm.uninstall(release.name, wait="watcher", timeout=START_S)
    kinds = "all,configmap,secret,serviceaccount,role,rolebinding,networkpolicy,persistentvolumeclaim"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        left = release.read(kinds, "{range .items[*]}{.kind} {end}").split()
        if sorted(left) == ["PersistentVolumeClaim", "Pod"]:
            return
        time.sleep(2)
    raise AssertionError(f"left behind: {left}")
