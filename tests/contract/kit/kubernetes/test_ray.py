"""Jobs on a Ray cluster of their own."""

from __future__ import annotations

import asyncio

import pytest

from anneal.kit.jobs.demand import Demand
from anneal.kit.jobs.kubernetes.resources import PERMISSIONS
from anneal.kit.options import PodOptions, RayOptions
from anneal.kit.rpc.status import decode_status
from anneal.v1 import job_service_pb2 as pb
from tests.contract.kit.test_jobs import metadata, result, wait
from tests.fixtures.kubernetes_world import DIGITS, World, submit


@pytest.fixture
def ray_world(world: World) -> World:
    small = PodOptions(cpu="1", memory="1Gi")
    world.launcher = {"ray": RayOptions(enabled=True, head=small, worker=small), "ttl_s": 1}
    world.demand = Demand(ray_workers=2)
    return world


async def test_a_ray_job_runs_and_is_cleaned_up(ray_world: World) -> None:
    async with ray_world.service() as (host, channel):
        name = await submit(host, "slow")
        await ray_world.progress(host, name)
        roles = sorted(pod["metadata"]["labels"]["ray.io/node-type"] for pod in ray_world.api.all("pods"))
        assert roles == ["head", "worker", "worker"]
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 1
        await ray_world.until(lambda: not ray_world.api.all("rayjobs") and not ray_world.api.all("secrets"))


def ray_pod(world: World, role: str) -> str:
    """The name of a pod with a role in its Ray cluster."""
    pods = (pod["metadata"] for pod in world.api.all("pods"))
    return str(next(pod["name"] for pod in pods if pod["labels"]["ray.io/node-type"] == role))


async def test_a_ray_head_that_was_evicted_is_followed_by_another_attempt(ray_world: World) -> None:
    async with ray_world.service() as (host, channel):
        name = await submit(host, "slow")
        await ray_world.progress(host, name)
        ray_world.node.evict_by_node(ray_pod(ray_world, "head"), "low", is_disruption=True)
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 2
        assert (await host.jobs.store.get(name)).failures == 0


@pytest.mark.parametrize(("is_preempted", "failures"), [(True, 0), (False, 1)])
async def test_a_failure_over_a_preempted_ray_worker_charges_nobody(
    ray_world: World, is_preempted: bool, failures: int
) -> None:
    async with ray_world.service() as (host, channel):
        name = await submit(host, "falls")
        await ray_world.progress(host, name)
        if is_preempted:
            ray_world.node.evict(ray_pod(ray_world, "worker"), "PreemptionByScheduler")
            await asyncio.sleep(0.5)
        (ray_world.scratch(name) / "fall").touch()  # as Ray does that has lost a worker
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 2
        assert ("preempted" in metadata(ended).last_failure) is is_preempted
        assert (await host.jobs.store.get(name)).failures == failures


async def test_a_failure_over_a_ray_worker_without_memory_says_so(ray_world: World) -> None:
    async with ray_world.service() as (host, channel):
        name = await submit(host, "falls")
        await ray_world.progress(host, name)
        ray_world.node.out_of_memory(ray_pod(ray_world, "worker"))
        await ray_world.pod("Failed")
        await asyncio.sleep(0.3)
        (ray_world.scratch(name) / "fall").touch()
        ended = await wait(channel, name)
        refusal = decode_status(ended.error)
        assert refusal is not None
        assert refusal.reason == "JOB_OUT_OF_MEMORY"
        assert refusal.facts["container"] == "ray-worker"
        assert metadata(ended).attempt == 1


async def test_every_permission_is_needed(ray_world: World) -> None:
    """With each request's answer lost once; that no other is asked for, the API server of every test sees to."""
    async with ray_world.service() as (host, channel):
        for ray_workers, resource in ((0, "jobs"), (2, "rayjobs")):
            ray_world.demand = Demand(ray_workers=ray_workers)
            ray_world.api.fail("create", resource, is_done=True)
            ray_world.node.full = "0/1 nodes are available"
            name = await submit(host, "steady")
            await ray_world.said(host, name, "waiting for a node")  # events are read meanwhile
            ray_world.node.full = ""
            await ray_world.progress(host, name)
            await host.jobs.cancel(name)
            assert metadata(await wait(channel, name)).state == pb.JobState.JOB_STATE_CANCELLED
            await ray_world.until(lambda: not ray_world.api.all("jobs") and not ray_world.api.all("rayjobs"))
        assert ray_world.api.asked == PERMISSIONS


async def test_without_kuberay_only_those_who_train_hear_of_it(ray_world: World) -> None:
    ray_world.api.missing.add("rayjobs")
    async with ray_world.service() as (host, channel):
        ended = await wait(channel, await submit(host, "fast"))
        assert metadata(ended).state == pb.JobState.JOB_STATE_FAILED
        assert "rayjobs" in ended.error.message
        ray_world.demand = Demand()
        assert result(await wait(channel, await submit(host, "fast"))).digest == DIGITS
