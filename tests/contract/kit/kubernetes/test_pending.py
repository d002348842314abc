"""What a job on a cluster waits for: shown while it waits, gone when it does not, and the reason of its failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import pytest

from anneal.kit.jobs.demand import Demand
from anneal.kit.jobs.kubernetes import client, launcher
from anneal.kit.jobs.states import State
from anneal.kit.options import PodOptions, RayOptions
from anneal.kit.rpc.status import decode_status
from anneal.v1 import job_service_pb2 as pb
from anneal.v1 import job_service_pb2_grpc as pb_grpc
from tests.contract.kit.test_jobs import metadata, result, wait
from tests.fixtures.kubernetes_api import Webhook
from tests.fixtures.kubernetes_world import DIGITS, World, submit

NO_NODE = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available"
NO_CLASS = 'storageclass.storage.k8s.io "fast" not found'
NO_MOUNT = 'MountVolume.SetUp failed for volume "tls" : secret "release-tls" not found'


def _full_node(world: World) -> None:
    world.node.full = NO_NODE


def _no_image(world: World) -> None:
    world.node.broken_image = 'Back-off pulling image "registry.example/anneal:1": ErrImagePull: not found'


def _slow_image(world: World) -> None:
    world.node.slow_image = True


def _unbound_claim(world: World) -> None:
    world.node.unbound["scratch"] = NO_CLASS


def _unmounted(world: World) -> None:
    world.node.unmounted = NO_MOUNT


def _quota(resource: str) -> Callable[[World], None]:
    return lambda world: world.api.quota.update({resource: 0})


def _webhook(resource: str, denies: str = "", status: int = 400) -> Callable[[World], None]:
    return lambda world: world.api.webhooks.append(Webhook(resource, denies, status))


def _no_kuberay(world: World) -> None:
    world.node.has_kuberay = False


def _relieve(world: World) -> None:
    """Take away whatever the cases above do."""
    world.node.full = world.node.broken_image = world.node.unmounted = ""
    world.node.slow_image, world.node.has_kuberay = False, True
    world.node.unbound.clear()
    world.api.quota.clear()
    world.api.webhooks.clear()


AWAY = 'failed calling webhook "policy.example.com"'
DENIES = "images must come from registry.example"
CASES = {
    "node": (_full_node, 0, "node", f"waiting for a node: {NO_NODE}"),
    "image": (_no_image, 0, "image", "waiting for an image: ImagePullBackOff: Back-off pulling image"),
    "slow_image": (_slow_image, 0, "image", 'waiting for an image: Pulling image "registry.example/anneal:1"'),
    "claim": (_unbound_claim, 0, "volume", f"ProvisioningFailed: {NO_CLASS}"),
    "mount": (_unmounted, 0, "volume", f"waiting for a volume: FailedMount: {NO_MOUNT}"),
    "quota_of_jobs": (_quota("jobs"), 0, "quota", "exceeded quota: compute, requested: count/jobs.batch=1, used"),
    "quota_of_secrets": (_quota("secrets"), 0, "quota", "exceeded quota: compute, requested: count/secrets=1, used"),
    "quota_of_pods": (_quota("pods"), 0, "quota", "FailedCreate: Error creating: pods"),
    "webhook_away_for_jobs": (_webhook("jobs"), 0, "admission", AWAY),
    "webhook_away_for_pods": (_webhook("pods"), 0, "admission", AWAY),
    "webhook_denies_pods": (_webhook("pods", DENIES), 0, "admission", f"denied the request: {DENIES}"),
    "ray_node": (_full_node, 1, "node", f"waiting for a node: {NO_NODE}"),
    "ray_quota_of_jobs": (_quota("rayjobs"), 1, "quota", "exceeded quota: compute, requested: count/rayjobs.ray.io=1"),
    "ray_quota_of_pods": (_quota("pods"), 1, "quota", "FailedToCreateHeadPod: Failed to create head Pod"),
    "ray_operator_away": (
        _no_kuberay,
        1,
        "ray_cluster",
        "waiting for its Ray cluster: KubeRay has not created its pods",
    ),
}
cases = pytest.mark.parametrize(("cause", "ray_workers", "reason", "text"), CASES.values(), ids=CASES.keys())


def prepare(world: World, cause: Callable[[World], None], ray_workers: int) -> None:
    cause(world)
    small = PodOptions(cpu="1", memory="1Gi")
    world.launcher |= {"ray": RayOptions(enabled=bool(ray_workers), head=small, worker=small)}
    world.demand = Demand(ray_workers=ray_workers)


def measured(world_host: object, metric: str, **labels: str) -> float | None:
    value: float | None = world_host.runtime.metrics.registry.get_sample_value(metric, labels)  # type: ignore[attr-defined]
    return value


@cases
async def test_a_wait_is_shown_in_the_clusters_words_and_gone_when_it_is_over(
    world: World, cause: Callable[[World], None], ray_workers: int, reason: str, text: str
) -> None:
    prepare(world, cause, ray_workers)
    async with world.service() as (host, channel):
        name = await submit(host, "steady")
        progress = await world.pending(channel, name, text)  # within ten seconds
        assert progress.pending_reason == pb.PendingReason.Value(f"PENDING_REASON_{reason.upper()}")
        assert progress.message.startswith("waiting for ")
        assert not progress.HasField("total")
        await world.until_true(lambda: measured(host, "anneal_jobs_pending", kind="count", reason=reason) == 1)
        labels = {"kind": "count", "operation": name, "reason": reason}
        assert measured(host, "anneal_job_pending_seconds", **labels) == pytest.approx(1, abs=9)
        _relieve(world)
        await world.progress(host, name)
        async with asyncio.timeout(10):
            while (await host.jobs.store.get(name)).pending_reason:
                await asyncio.sleep(0.05)
        await world.until_true(lambda: measured(host, "anneal_jobs_pending", kind="count", reason=reason) == 0)
        assert measured(host, "anneal_job_pending_seconds", **labels) is None
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert (metadata(ended).attempt, metadata(ended).last_failure) == (1, "")
        assert (metadata(ended).progress.message, metadata(ended).progress.pending_reason) == ("", 0)
        watched = pb_grpc.JobServiceStub(channel).WatchJob(pb.WatchJobRequest(name=name))
        shown = [m.event.progress async for m in watched if m.event.HasField("progress")]
        assert any(text in one.message and one.pending_reason for one in shown)
        assert not shown[-1].pending_reason


@cases
async def test_a_wait_that_is_too_long_is_the_reason_of_the_failure(
    world: World, cause: Callable[[World], None], ray_workers: int, reason: str, text: str
) -> None:
    world.launcher = {"pending_s": 3}
    prepare(world, cause, ray_workers)
    async with world.service() as (host, channel):
        name = await submit(host, "fast")
        ended = await wait(channel, name)
        assert ended.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
        refusal = decode_status(ended.error)
        assert refusal is not None
        assert (refusal.reason, refusal.facts["pending_reason"]) == ("JOB_PENDING_TOO_LONG", reason)
        assert "it did not start within 3 s: waiting for " in ended.error.message
        assert text in ended.error.message
        assert metadata(ended).attempt == 1
        assert text in metadata(ended).last_failure
        assert metadata(ended).progress.message == ""
        _relieve(world)
        await world.until(lambda: not world.api.all("jobs") and not world.api.all("rayjobs"))


@pytest.mark.parametrize("status", [400, 403, 500])
async def test_a_denied_object_fails_the_job_at_once_with_the_webhooks_words(world: World, status: int) -> None:
    world.api.webhooks.append(Webhook("jobs", DENIES, status))
    async with world.service() as (host, channel):
        ended = await wait(channel, await submit(host, "fast"))
        refusal = decode_status(ended.error)
        assert refusal is not None
        assert refusal.reason == "JOB_NOT_ACCEPTED"
        assert f'admission webhook "policy.example.com" denied the request: {DENIES}' in ended.error.message
        assert metadata(ended).attempt == 1


async def test_a_job_that_waits_for_a_quota_is_cancelled_at_once(world: World) -> None:
    world.api.quota["jobs"] = 0
    async with world.service() as (host, channel):
        name = await submit(host, "fast")
        await world.pending(channel, name, "exceeded quota")
        await host.jobs.cancel(name)
        assert metadata(await wait(channel, name, 5)).state == pb.JobState.JOB_STATE_CANCELLED
        world.api.quota.clear()
        await asyncio.sleep(1)
        assert world.api.all("jobs") == []


async def test_a_service_that_is_restarted_goes_on_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "GONE_S", 0.3)
    world.api.quota["jobs"] = 0
    async with world.service() as (host, channel):
        name = await submit(host, "fast")
        await world.pending(channel, name, "exceeded quota")
    async with world.service() as (host, channel):
        async with asyncio.timeout(20):
            while (await host.jobs.store.get(name)).attempt != 2:
                await asyncio.sleep(0.05)
        await world.pending(channel, name, "exceeded quota")
        world.api.quota.clear()
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert (await host.jobs.store.get(name)).failures == 0


async def test_a_restart_does_not_begin_the_wait_again(world: World) -> None:
    world.node.full = NO_NODE
    async with world.service() as (host, channel):
        name = await submit(host, "fast")
        await world.pending(channel, name, "waiting for a node")
        since = (await host.jobs.store.get(name)).pending_since
    async with world.service() as (host, channel):
        await asyncio.sleep(1.5)
        job = await host.jobs.store.get(name)
        assert (job.pending_since, job.attempt) == (since, 1)


async def test_a_process_that_never_reports_is_shown_and_its_end_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anneal.kit.jobs.engine.SILENT_AFTER_S", 1.0)
    monkeypatch.setattr("anneal.kit.jobs.engine.START_LEASE_S", 4.0)
    world.node.is_mute = True
    async with world.service() as (host, channel):
        name = await submit(host, "fast")
        progress = await world.pending(channel, name, "waiting for its process: it started at ")
        assert "has not claimed its work" in progress.message
        assert progress.pending_reason == pb.PendingReason.PENDING_REASON_PROCESS
        ended = await wait(channel, name)
        assert ended.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
        assert "the job failed 2 times; the last time its process started and did not claim its work within " in (
            ended.error.message
        )


async def test_a_process_that_stops_sending_heartbeats_is_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anneal.kit.jobs.engine.SILENT_AFTER_S", 0.5)
    world.lease_s = 4.0
    async with world.service() as (host, channel):
        name = await submit(host, "steady")
        await world.progress(host, name)
        world.node.suspend(await world.pod())
        progress = await world.pending(channel, name, "waiting for its process: it has sent no heartbeat since ")
        assert progress.done  # what it has reported stays
        job = await world.failure(host, name)
        assert "its process sent no heartbeat for 4 s" in job.last_failure
        assert result(await wait(channel, name)).digest == DIGITS


async def test_a_queued_job_says_that_others_run(world: World) -> None:
    async with world.service() as (host, channel):
        host.jobs.options = host.jobs.options.model_copy(update={"max_running": 1})
        first, second = await submit(host, "slower"), await submit(host, "fast")
        progress = await world.pending(channel, second, "waiting for its turn: 1 of 1 jobs of this service are running")
        assert progress.pending_reason == pb.PendingReason.PENDING_REASON_TURN
        await host.jobs.cancel(first)
        assert result(await wait(channel, second)).digest == DIGITS


async def test_a_queued_job_says_that_the_api_does_not_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "FIRST_LIST_S", 0.1)
    world.api.fail("list", "jobs", status=503, times=400)
    async with world.service() as (host, channel):
        name = await submit(host, "fast")
        progress = await world.pending(channel, name, "waiting for the cluster's API: ")
        assert "503" in progress.message
        assert progress.pending_reason == pb.PendingReason.PENDING_REASON_API
        assert (await host.jobs.store.get(name)).state is State.QUEUED
        world.api._faults.clear()
        assert result(await wait(channel, name)).digest == DIGITS


async def test_jobs_wait_without_words_where_events_may_not_be_read(world: World) -> None:
    world.api.allowed -= {("", "events", "list")}
    world.api.quota["pods"] = 0
    async with world.service() as (host, channel):
        name = await submit(host, "fast")
        await world.pending(channel, name, "waiting for its pod: the cluster has not created it")
        world.api.quota.clear()
        assert result(await wait(channel, name)).digest == DIGITS


async def test_an_api_that_is_away_for_long_costs_no_attempt(world: World) -> None:
    world.api.fail("create", "jobs", status=503, times=client.TRIES * 3)
    async with world.service() as (host, channel):
        ended = await wait(channel, await submit(host, "fast"))
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 1
