"""The cases of `tests/contract/kit/kubernetes` that a test can bring about on a real cluster.

It needs, in the environment: `KUBECONFIG`; `ANNEAL_CLUSTER_IMAGE`, an image with the kit that the cluster can pull;
`ANNEAL_CLUSTER_HOST`, an address of this machine that pods reach; and may have `ANNEAL_CLUSTER_NAMESPACE` and
`ANNEAL_CLUSTER_CLAIM`, a PersistentVolumeClaim for checkpoints. With `ANNEAL_CLUSTER_RAY=1` KubeRay is installed, the
image has Ray, too, and many nodes can write the claim. The bodies of the jobs come in a ConfigMap.

The cases of waiting jobs create and delete a ResourceQuota in the namespace. With `ANNEAL_CLUSTER_ADMIN=1` the account
may create ValidatingWebhookConfigurations, too; the one of the test applies to this test's objects alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from kubernetes.client import ApiException
from pydantic import SecretStr

from anneal.kit.jobs.demand import Demand
from anneal.kit.jobs.kubernetes.client import Cluster
from anneal.kit.options import GrpcOptions, JobOptions, LauncherOptions, PodOptions, RayOptions, StoreOptions
from anneal.kit.rpc.channels import open_aio_channel
from anneal.kit.rpc.server import Host
from anneal.kit.rpc.status import decode_status
from anneal.kit.runtime import JobKind, Runtime, Service
from anneal.kit.settings import ServiceSettings
from anneal.kit.testing import hosted
from anneal.v1 import curation_service_pb2 as curation
from anneal.v1 import job_service_pb2 as pb
from tests.contract.kit.test_jobs import PROJECT, metadata, order, result, wait
from tests.fixtures.s3 import Bucket

NEEDED = ("KUBECONFIG", "ANNEAL_CLUSTER_IMAGE", "ANNEAL_CLUSTER_HOST")
MISSING = [name for name in NEEDED if not os.environ.get(name)]
NEEDED_FOR_RAY = ("ANNEAL_CLUSTER_RAY", "ANNEAL_CLUSTER_CLAIM")
MISSING_FOR_RAY = [name for name in NEEDED_FOR_RAY if not os.environ.get(name)]
MISSING_FOR_ADMIN = [name for name in ("ANNEAL_CLUSTER_ADMIN",) if not os.environ.get(name)]
BODIES = Path(__file__).resolve().parents[1] / "contract" / "kit" / "bodies.py"
TOKEN = "a-token-of-the-test"
DIGITS = "0 1 2 3 4 5 6 7 8 9 "
START_S = 300

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(MISSING), reason=f"no cluster to run jobs on: {', '.join(MISSING)} not set"),
]


def build(demand: Demand) -> Callable[[Runtime], Service]:
    kind = JobKind(
        name="count",
        request=curation.CurateDatasetRequest,
        body="bodies:work",
        max_attempts=2,
        demand=lambda _request: demand,
    )
    return lambda _runtime: Service(name="test", add=lambda _server: None, grpc_services=(), kinds=(kind,))


@dataclass
class World:
    """A namespace of the cluster, and a service of this machine whose jobs run there."""

    folder: Path
    store: StoreOptions
    core: Any
    batch: Any
    namespace: str
    name: str
    port: int

    @asynccontextmanager
    async def service(self, demand: Demand | None = None, **more: Any) -> AsyncIterator[tuple[Host, grpc.aio.Channel]]:
        options: dict[str, Any] = {
            "kind": "kubernetes",
            "kubeconfig": Path(os.environ["KUBECONFIG"]),
            "namespace": self.namespace,
            "owner": self.name,
            "host": f"{os.environ['ANNEAL_CLUSTER_HOST']}:{self.port}",
            "image": os.environ["ANNEAL_CLUSTER_IMAGE"],
            "scratch_claim": os.environ.get("ANNEAL_CLUSTER_CLAIM", ""),
            "env": {"PYTHONPATH": "/bodies"},
            "volumes": ({"name": "bodies", "configMap": {"name": self.name}},),
            "mounts": ({"name": "bodies", "mountPath": "/bodies", "readOnly": True},),
            "pod": PodOptions(cpu="250m", memory="512Mi"),
            "grace_s": 10,
        }
        settings = ServiceSettings(
            data_dir=self.folder,
            tokens=(SecretStr(TOKEN),),
            grpc=GrpcOptions(host="0.0.0.0", port=self.port),
            store=self.store,
            jobs=JobOptions(lease_s=30, backoff_s=0.5, cancel_grace_s=60),
            launcher=LauncherOptions(**{**options, **more}),
        )
        async with (
            hosted(self.folder, [build(demand or Demand())], settings=settings) as host,
            open_aio_channel(f"127.0.0.1:{self.port}", TOKEN) as channel,
        ):
            yield host, channel

    def pods(self) -> list[Any]:
        found = self.core.list_namespaced_pod(self.namespace, label_selector=f"anneal.dev/owner={self.name}")
        return list(found.items)

    def jobs(self) -> list[str]:
        found = self.batch.list_namespaced_job(self.namespace, label_selector=f"anneal.dev/owner={self.name}")
        return [job.metadata.name for job in found.items]

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(START_S):
            while not await asyncio.to_thread(holds):
                await asyncio.sleep(1)


@pytest.fixture
def world(tmp_path: Path, s3_bucket: Bucket) -> Iterator[World]:
    from kubernetes import client, config

    config.load_kube_config(os.environ["KUBECONFIG"])
    core, batch = client.CoreV1Api(), client.BatchV1Api()
    cluster = Cluster(Path(os.environ["KUBECONFIG"]), os.environ.get("ANNEAL_CLUSTER_NAMESPACE", ""))
    name = f"anneal-test-{uuid.uuid4().hex[:8]}"
    with socket.create_server(("0.0.0.0", 0)) as probe:
        port = int(probe.getsockname()[1])
    core.create_namespaced_config_map(
        cluster.namespace, {"metadata": {"name": name}, "data": {"bodies.py": BODIES.read_text(encoding="utf-8")}}
    )
    try:
        store = StoreOptions(url=s3_bucket.url, options=s3_bucket.options)  # these jobs keep nothing in it
        yield World(tmp_path, store, core, batch, cluster.namespace, name, port)
    finally:
        batch.delete_collection_namespaced_job(
            cluster.namespace, label_selector=f"anneal.dev/owner={name}", propagation_policy="Background"
        )
        core.delete_namespaced_config_map(name, cluster.namespace)


async def submit(host: Host, how: str) -> str:
    return str((await host.jobs.submit("count", order(how), project=PROJECT)).name)


async def pending(channel: grpc.aio.Channel, name: str, text: str, seconds: float = 60) -> pb.Progress:
    """The progress of the operation, once it says what the job waits for."""
    stub = operations_pb2_grpc.OperationsStub(channel)
    async with asyncio.timeout(seconds):
        while True:
            current = metadata(await stub.GetOperation(operations_pb2.GetOperationRequest(name=name)))
            if text in current.progress.message:
                return current.progress
            await asyncio.sleep(0.5)


async def assert_pending_too_long(channel: grpc.aio.Channel, name: str, reason: str) -> None:
    ended = await wait(channel, name, START_S)
    refusal = decode_status(ended.error)
    assert refusal is not None
    assert (refusal.reason, refusal.facts["pending_reason"]) == ("JOB_PENDING_TOO_LONG", reason)
    assert metadata(ended).attempt == 1


async def progress(host: Host, name: str) -> None:
    async with asyncio.timeout(START_S):
        while (await host.jobs.store.get(name)).progress is None:
            await asyncio.sleep(0.5)


async def test_a_job_runs_in_a_pod_and_ends_with_its_result(world: World) -> None:
    async with world.service() as (host, channel):
        ended = await wait(channel, await submit(host, "fast"), START_S)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 1


async def test_an_evicted_pod_is_followed_by_another_attempt(world: World) -> None:
    async with world.service() as (host, channel):
        name = await submit(host, "slower")
        await progress(host, name)
        (pod,) = world.pods()
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod.metadata.name}}
        world.core.create_namespaced_pod_eviction(pod.metadata.name, world.namespace, eviction)
        ended = await wait(channel, name, START_S)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 2
        assert (await host.jobs.store.get(name)).failures == 0


async def test_a_job_that_ran_out_of_memory_says_so(world: World) -> None:
    async with world.service() as (host, channel):
        ended = await wait(channel, await submit(host, "hungry"), START_S)
        refusal = decode_status(ended.error)
        assert refusal is not None
        assert refusal.reason == "JOB_OUT_OF_MEMORY"
        assert refusal.facts["memory_limit"] == "512Mi"


async def test_a_job_that_somebody_deleted_is_started_again(world: World) -> None:
    async with world.service() as (host, channel):
        name = await submit(host, "slower")
        await progress(host, name)
        (job,) = world.jobs()
        world.batch.delete_namespaced_job(job, world.namespace, propagation_policy="Background")
        ended = await wait(channel, name, START_S)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 2
        assert (await host.jobs.store.get(name)).failures == 0


# -- waiting -----------------------------------------------------------------------------------------------------


async def test_a_job_that_no_node_takes_waits_and_is_cancelled_at_once(world: World) -> None:
    async with world.service(Demand(node_selector={"anneal.dev/no-such-node": "true"})) as (host, channel):
        name = await submit(host, "fast")
        await pending(channel, name, "waiting for a node: 0/")
        await host.jobs.cancel(name)
        ended = await wait(channel, name, 30)
        assert metadata(ended).state == pb.JobState.JOB_STATE_CANCELLED
        await world.until(lambda: not world.jobs() and not world.pods())


async def test_an_image_that_cannot_be_pulled_is_the_reason_of_the_failure(world: World) -> None:
    async with world.service(image="registry.invalid/anneal:none", pending_s=30) as (host, channel):
        name = await submit(host, "fast")
        await pending(channel, name, "waiting for an image: ")
        await assert_pending_too_long(channel, name, "image")
        await world.until(lambda: not world.jobs() and not world.pods())


async def test_a_claim_that_is_not_bound_is_the_reason_of_the_failure(world: World) -> None:
    claim = {
        "metadata": {"name": world.name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": f"no-class-{world.name}",
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }
    world.core.create_namespaced_persistent_volume_claim(world.namespace, claim)
    try:
        async with world.service(scratch_claim=world.name, pending_s=30) as (host, channel):
            name = await submit(host, "fast")
            progress = await pending(channel, name, "waiting for a volume: ")
            assert "PersistentVolumeClaim" in progress.message
            await pending(channel, name, f"no-class-{world.name}")  # the provisioner's words
            await assert_pending_too_long(channel, name, "volume")
            await world.until(lambda: not world.jobs() and not world.pods())
    finally:
        world.core.delete_namespaced_persistent_volume_claim(world.name, world.namespace)


@pytest.mark.parametrize("counted", ["count/jobs.batch", "count/secrets", "pods"])
async def test_a_job_waits_for_a_full_quota_and_is_not_charged(world: World, counted: str) -> None:
    quota = {"metadata": {"name": world.name}, "spec": {"hard": {counted: "0"}}}
    world.core.create_namespaced_resource_quota(world.namespace, quota)
    try:
        await world.until(lambda: world.core.read_namespaced_resource_quota(world.name, world.namespace).status.hard)
        async with world.service() as (host, channel):
            name = await submit(host, "fast")
            progress = await pending(channel, name, "exceeded quota: ")
            assert progress.pending_reason == pb.PendingReason.PENDING_REASON_QUOTA
            world.core.delete_namespaced_resource_quota(world.name, world.namespace)
            ended = await wait(channel, name, START_S)
            assert result(ended).digest == DIGITS
            assert metadata(ended).attempt == 1
    finally:
        with contextlib.suppress(ApiException):
            world.core.delete_namespaced_resource_quota(world.name, world.namespace)


@pytest.mark.skipif(bool(MISSING_FOR_ADMIN), reason=f"may create no webhooks: {', '.join(MISSING_FOR_ADMIN)} not set")
async def test_a_webhook_that_does_not_answer_is_waited_for(world: World) -> None:
    from kubernetes import client

    admission = client.AdmissionregistrationV1Api()
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    webhook = {
        "name": "away.anneal.dev",
        "clientConfig": {"url": "https://127.0.0.1:9/validate"},  # the discard port: nothing listens
        "rules": [rule],
        "objectSelector": {"matchLabels": {"anneal.dev/owner": world.name}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 2,
    }
    admission.create_validating_webhook_configuration({"metadata": {"name": world.name}, "webhooks": [webhook]})
    try:
        async with world.service() as (host, channel):
            name = await submit(host, "fast")
            progress = await pending(channel, name, 'failed calling webhook "away.anneal.dev"')
            assert progress.pending_reason == pb.PendingReason.PENDING_REASON_ADMISSION
            admission.delete_validating_webhook_configuration(world.name)
            ended = await wait(channel, name, START_S)
            assert result(ended).digest == DIGITS
            assert metadata(ended).attempt == 1
    finally:
        with contextlib.suppress(ApiException):
            admission.delete_validating_webhook_configuration(world.name)


@pytest.mark.skipif(bool(MISSING_FOR_ADMIN), reason=f"may create no policies: {', '.join(MISSING_FOR_ADMIN)} not set")
async def test_what_admission_denies_fails_the_job_at_once(world: World) -> None:
    from kubernetes import client

    admission = client.AdmissionregistrationV1Api()
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    mine = {"matchLabels": {"anneal.dev/owner": world.name}}
    policy = {
        "metadata": {"name": world.name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [rule], "objectSelector": mine},
            "validations": [{"expression": "false", "message": "no job of this test"}],
        },
    }
    binding = {"metadata": {"name": world.name}, "spec": {"policyName": world.name, "validationActions": ["Deny"]}}
    admission.create_validating_admission_policy(policy)
    admission.create_validating_admission_policy_binding(binding)
    try:
        await asyncio.sleep(5)  # the API server takes a new policy up with a delay
        async with world.service() as (host, channel):
            ended = await wait(channel, await submit(host, "fast"), START_S)
            refusal = decode_status(ended.error)
            assert refusal is not None
            assert refusal.reason == "JOB_NOT_ACCEPTED"
            assert "no job of this test" in ended.error.message
            assert metadata(ended).attempt == 1
    finally:
        admission.delete_validating_admission_policy_binding(world.name)
        admission.delete_validating_admission_policy(world.name)


async def test_a_process_that_never_reports_is_shown(world: World) -> None:
    unreachable = f"{os.environ['ANNEAL_CLUSTER_HOST']}:9"
    async with world.service(host=unreachable) as (host, channel):
        name = await submit(host, "fast")
        await pending(channel, name, "waiting for its process: ", START_S)
        await host.jobs.cancel(name)


async def test_a_cancelled_job_leaves_nothing(world: World) -> None:
    async with world.service() as (host, channel):
        name = await submit(host, "slower")
        await progress(host, name)
        await host.jobs.cancel(name)
        ended = await wait(channel, name, START_S)
        assert metadata(ended).state == pb.JobState.JOB_STATE_CANCELLED
        await world.until(lambda: not world.jobs() and not world.pods())


async def test_a_job_survives_a_restart_of_the_service(world: World) -> None:
    async with world.service() as (host, _):
        name = await submit(host, "slower")
        await progress(host, name)
    async with world.service() as (host, channel):
        ended = await wait(channel, name, START_S)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 1


@pytest.mark.skipif(bool(MISSING_FOR_RAY), reason=f"no KubeRay to train on: {', '.join(MISSING_FOR_RAY)} not set")
async def test_a_ray_job_runs_and_is_cleaned_up(world: World) -> None:
    pod = PodOptions(cpu="1", memory="2Gi")
    ray = RayOptions(enabled=True, head=pod, worker=pod)
    async with world.service(Demand(ray_workers=1), ray=ray, ttl_s=1) as (host, channel):
        ended = await wait(channel, await submit(host, "slow"), START_S)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 1
        await world.until(lambda: not world.pods())
