"""The pods of a RayJob, started as KubeRay starts them: a head, a worker that joins it, and the job's own command.

KubeRay itself cannot run here. What it adds to the containers is from its sources (v1.7, `pod.go`): a shell that runs
`ray start`, an init container that waits for the head with `ray health-check`, probes by `wget`, and a token.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anneal.kit.jobs.demand import Demand
from anneal.kit.jobs.kubernetes.rayjob import RayJobForm
from anneal.kit.jobs.launcher import Attempt
from anneal.kit.options import LauncherOptions, PodOptions, RayOptions
from tests.containers.images import IMAGES
from tests.containers.kubelet import Cluster, Podman, arguments

if not os.environ.get("ANNEAL_TEST_CONTAINERS"):  # one line among the skipped, not one for each test
    pytest.skip("ANNEAL_TEST_CONTAINERS is not set: make test-containers sets it", allow_module_level=True)

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]
OPERATION = "projects/p/operations/train-0123456789ab"
START_S = 120
SHELLS = ("-c", "-lc")
"""Newer and older versions of KubeRay start Ray without and with a login shell."""


def ray_job() -> dict[str, Any]:
    options = LauncherOptions(
        kind="kubernetes",
        image=IMAGES["training"],
        host="anneal-training:50051",
        owner="anneal-training",
        scratch_claim="scratch",
        shm_size="512Mi",
        ray=RayOptions(
            enabled=True,
            head=PodOptions(cpu="1", memory="2Gi"),
            worker=PodOptions(cpu="1", memory="2Gi", gpus=0),
        ),
    )
    config = {"operation": OPERATION, "claim": "c"}
    attempt = Attempt(operation=OPERATION, attempt=1, config=config, demand=Demand(ray_workers=1, gpus=0))
    return RayJobForm(options, Path("/data")).build(attempt)


@pytest.fixture(scope="module")
def ray_network(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Podman, Cluster, str]]:
    podman = Podman(f"anneal-ray-{os.getpid()}")
    net = f"10.{random.SystemRandom().randint(200, 250)}.{random.SystemRandom().randint(0, 255)}"
    cluster = Cluster(network=f"{podman.prefix}-net", folder=tmp_path_factory.mktemp("ray"))
    cluster.environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a-token-of-the-tests-that-is-long-enough"}
    podman.call("network", "create", "--internal", "--subnet", f"{net}.0/24", cluster.network)
    try:
        yield podman, cluster, f"{net}.10"
    finally:
        podman.remove_all()
        podman.call("network", "rm", "--force", cluster.network, check=False)


@pytest.mark.parametrize("shell", SHELLS)
def test_head_and_worker_start_and_find_each_other(ray_network: tuple[Podman, Cluster, str], shell: str) -> None:
    podman, cluster, ip = ray_network
    spec = ray_job()["spec"]
    head = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    worker = group["template"]["spec"]
    secret = next(volume["secret"]["secretName"] for volume in head["volumes"] if "secret" in volume)
    cluster.secrets[secret] = {"job.json": json.dumps({"operation": OPERATION})}
    names = [f"head{shell}", f"worker{shell}"]
    try:
        start = f"ulimit -n 1024; ray start --head --block --num-cpus=0 --node-ip-address={ip}"
        start += " --dashboard-agent-listen-port=52365"
        _start(podman, cluster, names[0], head, ["/bin/bash", shell, "--", start], ip)
        _until(podman, names[0], f"ray health-check --address {ip}:6379 > /dev/null")
        # Its probes, and the init container of a worker, are commands in the same image.
        _until(
            podman,
            names[0],
            "wget --tries 1 -T 2 -q -O- http://localhost:52365/api/local_raylet_healthz | grep success",
        )
        join = f"ray health-check --address {ip}:6379 && exec ray start --block --num-cpus=1 --address={ip}:6379"
        _start(podman, cluster, names[1], worker, ["/bin/bash", shell, "--", join])
        code = (
            f"import ray; ray.init('{ip}:6379', log_to_driver=False); print(int(ray.cluster_resources().get('CPU', 0)))"
        )
        _until(podman, names[0], f'test "$(python -c "{code}" 2>/dev/null | tail -n 1)" = 1')
        # The entry point that KubeRay submits finds its configuration where the launcher mounts it, and its module.
        entry = spec["entrypoint"]
        ran = podman.call("exec", podman.name(names[0]), "/bin/bash", shell, entry, check=False, timeout=120)
        assert "KeyError" in ran.stderr, f"{ran.stdout}{ran.stderr}"  # a configuration of one key reached it
        assert "No module named" not in ran.stderr
    finally:
        for name in names:
            podman.call("rm", "--force", "--time", "2", podman.name(name), check=False)


def _start(podman: Podman, cluster: Cluster, name: str, spec: dict[str, Any], command: list[str], ip: str = "") -> None:
    (container,) = spec["containers"]
    started = {**spec, "containers": [{**container, "command": command}]}
    podman.call("run", "--detach", *arguments(podman, cluster, name, started, ip=ip))


def _until(podman: Podman, name: str, command: str) -> None:
    deadline = time.monotonic() + START_S
    while True:
        ran = subprocess.run(
            ["podman", "exec", podman.name(name), "/bin/bash", "-c", command],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if ran.returncode == 0:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"{command}: {ran.stdout}{ran.stderr}\n{podman.logs(name, 40)}")
        time.sleep(1)
