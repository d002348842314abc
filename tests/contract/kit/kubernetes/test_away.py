"""A service, an API or an answer that goes away for a while loses no job."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from anneal.kit.jobs.kubernetes import client, launcher
from anneal.kit.jobs.states import State
from anneal.v1 import job_service_pb2 as pb
from tests.contract.kit.test_jobs import metadata, result, wait
from tests.fixtures.kubernetes_world import DIGITS, World, attempts, submit


async def test_a_job_survives_a_restart_of_the_service(world: World) -> None:
    async with world.service() as (host, _):
        name = await submit(host, "steady")
        await world.progress(host, name)
        process = psutil.Process(world.node.pid(await world.pod()))
    assert process.is_running()
    async with world.service() as (host, channel):
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 1
        assert attempts(world) == ["1"]


async def test_a_job_outlives_a_service_that_is_away_for_longer_than_its_lease(world: World) -> None:
    world.lease_s = 2.0
    async with world.service() as (host, _):
        name = await submit(host, "steady")
        await world.progress(host, name)
    await asyncio.sleep(3.5)
    async with world.service() as (host, channel):
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 1


async def test_a_job_whose_service_stays_away_ends_and_is_started_again(world: World) -> None:
    world.lease_s, world.launcher = 2.0, {"away_s": 1}
    async with world.service() as (host, _):
        name = await submit(host, "steady")
        await world.progress(host, name)
    await world.pod("Failed")
    async with world.service() as (host, channel):
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 2
        assert "did not answer" in metadata(ended).last_failure
        assert (await host.jobs.store.get(name)).failures == 0


async def test_what_ended_while_the_service_was_away_is_found(world: World) -> None:
    async with world.service() as (host, _):
        name = await submit(host, "steady")
        await world.progress(host, name)
        pod = await world.pod()
    world.node.evict_by_node(pod, "The node was low on memory", is_disruption=True)
    async with world.service() as (host, channel):
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 2
        assert "evicted by its node" in metadata(ended).last_failure


async def test_what_nobody_wants_any_more_is_swept_up(world: World) -> None:
    world.launcher = {"grace_s": 1}
    async with world.service() as (host, _):
        name = await submit(host, "deaf")
        await world.progress(host, name)
        psutil.Process(world.node.pid(await world.pod())).suspend()  # it does not hear that it was given up
    async with world.service() as (host, _):
        # The attempt ended while its pod went on, as when the deletion of a killed service never came.
        await host.jobs.store.lose(name, 1, error=b"", text="gone", backoff_s=1000)
        await world.until(lambda: not world.api.all("jobs") and not world.api.all("pods"))


async def test_a_lost_answer_makes_no_second_pod(world: World) -> None:
    world.api.fail("create", "jobs", is_done=True)
    world.api.fail("create", "secrets", is_done=True)
    async with world.service() as (host, channel):
        ended = await wait(channel, await submit(host, "fast"))
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 1
        assert len(world.api.all("pods")) == 1


async def test_an_api_that_does_not_answer_charges_nobody(world: World) -> None:
    world.api.fail("create", "jobs", status=500, times=client.TRIES)
    async with world.service() as (host, channel):
        name = await submit(host, "fast")
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert (metadata(ended).attempt, metadata(ended).last_failure) == (1, "")


async def test_without_the_api_jobs_stay_in_the_queue(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "FIRST_LIST_S", 0.1)
    world.api.fail("list", "jobs", status=503, times=40)
    async with world.service() as (host, channel):
        name = await submit(host, "fast")
        await asyncio.sleep(0.5)
        assert (await host.jobs.store.get(name)).state is State.QUEUED
        world.api._faults.clear()
        assert result(await wait(channel, name)).digest == DIGITS


async def test_what_the_cluster_refuses_fails_the_job_with_its_words(world: World) -> None:
    world.api.fail("create", "jobs", status=403, times=2)
    async with world.service() as (host, channel):
        ended = await wait(channel, await submit(host, "fast"))
        assert metadata(ended).state == pb.JobState.JOB_STATE_FAILED
        assert "the cluster did not take it" in ended.error.message
        assert "403" in ended.error.message


async def test_a_watch_that_breaks_and_expires_loses_no_job(world: World) -> None:
    async with world.service() as (host, channel):
        name = await submit(host, "slow")
        await world.progress(host, name)
        pod = await world.pod()
        for resource in ("jobs", "pods"):
            world.api.fail("watch", resource, times=1)
        world.api.cut_watches()
        world.node.evict_by_node(pod, "low", is_disruption=True)
        world.api.compact()
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 2
