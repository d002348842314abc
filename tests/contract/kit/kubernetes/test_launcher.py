"""The job engine on a cluster: jobs that end in every way they can, wait, and are stopped."""

from __future__ import annotations

import asyncio

import grpc
import psutil
import pytest

from anneal.kit.jobs.demand import Demand
from anneal.kit.jobs.kubernetes.narrowing import DemandTooWide
from anneal.kit.options import TlsOptions
from anneal.kit.rpc.status import decode_status
from anneal.v1 import job_service_pb2 as pb
from tests.contract.kit.test_jobs import PROJECT, metadata, result, wait
from tests.fixtures.certificates import Authority
from tests.fixtures.kubernetes_world import DIGITS, World, attempts, submit

# -- ends --------------------------------------------------------------------------------------------------------


async def test_a_job_runs_in_a_pod_and_ends_with_its_result(world: World) -> None:
    async with world.service() as (host, channel):
        name = await submit(host, "fast")
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 1
        await world.pod("Succeeded")
        (secret,) = world.api.all("secrets")
        (job,) = world.api.all("jobs")
        assert secret["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
        world.api.remove("jobs", job["metadata"]["name"])  # as its TTL does
        assert world.api.all("secrets") == []


async def test_an_uninstalled_release_takes_its_jobs_along(world: World) -> None:
    async with world.service() as (host, channel):
        name = await submit(host, "slow")
        await world.progress(host, name)
        world.api.remove("roles", "tests")
        assert world.api.all("jobs") == []
        assert world.api.all("secrets") == []
        await world.until(lambda: not world.api.all("pods"))
        ended = await wait(channel, name)  # and starts no other, which nothing would delete
        assert metadata(ended).state == pb.JobState.JOB_STATE_FAILED
        assert "roles/tests: 404" in ended.error.message
        assert world.api.all("jobs") == []


async def test_without_a_role_jobs_outlive_the_release(world: World) -> None:
    world.launcher = {"role": ""}
    async with world.service() as (host, channel):
        assert result(await wait(channel, await submit(host, "fast"))).digest == DIGITS
        assert "ownerReferences" not in world.api.all("jobs")[0]["metadata"]


async def test_a_pod_reaches_its_service_over_mutual_tls(world: World) -> None:
    folder = world.folder / "tls"
    authority = Authority()
    cert, key = authority.sign().write(folder)
    (folder / "ca.crt").write_bytes(authority.pem)
    world.tls = TlsOptions(cert=cert, key=key, ca=folder / "ca.crt", mutual=True)
    # The pod has the same files at the same paths, as its settings say.
    files = {path.name: path.read_text() for path in folder.iterdir()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "release-tls"}, "stringData": files}
    world.api.put("secrets", secret, is_new=True)
    world.launcher = {
        "volumes": ({"name": "tls", "secret": {"secretName": "release-tls"}},),
        "mounts": ({"name": "tls", "mountPath": str(folder), "readOnly": True},),
    }
    async with world.service() as (host, channel):
        ended = await wait(channel, await submit(host, "fast"))
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 1


async def test_an_evicted_pod_is_followed_by_another_attempt(world: World) -> None:
    async with world.service() as (host, channel):
        name = await submit(host, "slow")
        await world.progress(host, name)
        world.node.evict(await world.pod())
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS  # from where the first attempt was, each number once
        assert metadata(ended).attempt == 2
        assert (await host.jobs.store.get(name)).failures == 0


@pytest.mark.parametrize(("is_disruption", "failures"), [(True, 0), (False, 1)])
async def test_a_pod_that_its_node_ends_is_told_from_one_that_took_too_much(
    world: World, is_disruption: bool, failures: int
) -> None:
    async with world.service() as (host, channel):
        name = await submit(host, "slow")
        await world.progress(host, name)
        world.node.evict_by_node(await world.pod(), "The node was low on something", is_disruption=is_disruption)
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert "evicted" in metadata(ended).last_failure
        assert (await host.jobs.store.get(name)).failures == failures


async def test_a_job_that_the_cluster_always_interrupts_ends(world: World) -> None:
    world.max_interruptions = 2
    async with world.service() as (host, channel):
        name = await submit(host, "steady")
        first = await world.pod()
        await world.progress(host, name)
        world.node.evict_by_node(first, "low", is_disruption=True)
        world.node.evict_by_node(await world.pod(besides=first), "low", is_disruption=True)
        ended = await wait(channel, name)
        assert metadata(ended).state == pb.JobState.JOB_STATE_FAILED
        refusal = decode_status(ended.error)
        assert refusal is not None
        assert refusal.reason == "JOB_INTERRUPTED"
        assert "interrupted 2 times" in ended.error.message
        assert "evicted by its node" in ended.error.message
        assert (await host.jobs.store.get(name)).failures == 0


async def test_a_job_that_ran_out_of_memory_says_so_and_is_not_tried_again(world: World) -> None:
    async with world.service() as (host, channel):
        name = await submit(host, "slow")
        await world.progress(host, name)
        world.node.out_of_memory(await world.pod())
        ended = await wait(channel, name)
        assert metadata(ended).state == pb.JobState.JOB_STATE_FAILED
        assert metadata(ended).attempt == 1
        refusal = decode_status(ended.error)
        assert refusal is not None
        assert refusal.reason == "JOB_OUT_OF_MEMORY"
        assert refusal.facts["memory_limit"] == "1Gi"
        assert ended.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]


async def test_a_killed_process_is_charged_and_resumed(world: World) -> None:
    async with world.service() as (host, channel):
        name = await submit(host, "slow")
        await world.progress(host, name)
        psutil.Process(world.node.pid(await world.pod())).kill()
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert "SIGKILL" in metadata(ended).last_failure
        assert (await host.jobs.store.get(name)).failures == 1


async def test_a_lost_node_charges_nobody_and_its_pod_is_fenced(world: World) -> None:
    world.lease_s = 2.0
    async with world.service() as (host, channel):
        name = await submit(host, "steady")
        await world.progress(host, name)
        lost = await world.pod()
        frozen = psutil.Process(world.node.pid(lost))
        world.node.lose()
        job = await world.failure(host, name)
        assert "node-1 stopped answering" in job.last_failure
        assert job.failures == 0
        world.node.is_lost = False  # another node takes the next attempt, and the first one wakes up again
        frozen.resume()
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 2
        await asyncio.to_thread(psutil.wait_procs, [frozen], 10)
        assert not frozen.is_running() or frozen.status() == psutil.STATUS_ZOMBIE


async def test_a_job_that_somebody_deleted_is_started_again(world: World) -> None:
    async with world.service() as (host, channel):
        name = await submit(host, "steady")
        await world.progress(host, name)
        (job,) = world.api.all("jobs")
        world.api.remove("jobs", job["metadata"]["name"])
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 2
        assert (await host.jobs.store.get(name)).failures == 0


# -- being stopped -----------------------------------------------------------------------------------------------


async def test_a_cancelled_job_stops_and_leaves_nothing(world: World) -> None:
    async with world.service() as (host, channel):
        name = await submit(host, "slower")
        await world.progress(host, name)
        await host.jobs.cancel(name)
        ended = await wait(channel, name)
        assert metadata(ended).state == pb.JobState.JOB_STATE_CANCELLED
        await world.until(lambda: not world.api.all("jobs") and not world.api.all("pods"))
        assert world.api.all("secrets") == []


async def test_a_job_that_does_not_stop_is_deleted_although_a_deletion_is_lost(world: World) -> None:
    async with world.service() as (host, channel):
        host.jobs.options = host.jobs.options.model_copy(update={"cancel_grace_s": 0.5})
        name = await submit(host, "deaf")
        await world.progress(host, name)
        world.api.lose_deletes(1)
        await host.jobs.cancel(name)
        ended = await wait(channel, name)
        assert metadata(ended).state == pb.JobState.JOB_STATE_CANCELLED
        await world.until(lambda: not world.api.all("jobs") and not world.api.all("pods"))
        assert world.api.seen.count(("delete", "jobs")) >= 2


async def test_a_job_that_waits_is_cancelled_at_once(world: World) -> None:
    world.node.full = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    async with world.service() as (host, channel):
        name = await submit(host, "fast")
        await world.said(host, name, "Insufficient nvidia.com/gpu")
        await host.jobs.cancel(name)
        ended = await wait(channel, name, 5)
        assert metadata(ended).state == pb.JobState.JOB_STATE_CANCELLED
        await world.until(lambda: not world.api.all("jobs") and not world.api.all("pods"))


# -- waiting -----------------------------------------------------------------------------------------------------


async def test_a_job_that_waits_for_a_node_keeps_its_lease(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anneal.kit.jobs.engine.START_LEASE_S", 1.0)
    world.node.full = "0/1 nodes are available"
    async with world.service() as (host, channel):
        name = await submit(host, "fast")
        await world.said(host, name, "waiting for a node: 0/1 nodes are available")
        await asyncio.sleep(2.5)
        monkeypatch.setattr("anneal.kit.jobs.engine.START_LEASE_S", 30.0)
        await asyncio.sleep(0.6)
        world.node.full = ""
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 1


async def test_a_job_that_never_starts_says_why(world: World) -> None:
    world.node.broken_image = 'Back-off pulling image "registry.example/anneal:1"'
    world.launcher = {"pending_s": 1}
    async with world.service() as (host, channel):
        name = await submit(host, "fast")
        ended = await wait(channel, name)
        assert metadata(ended).state == pb.JobState.JOB_STATE_FAILED
        assert "it did not start within 1 s" in ended.error.message
        assert "Back-off pulling image" in ended.error.message
        assert metadata(ended).attempt == 1


async def test_a_queue_holds_a_job_and_may_take_its_place_back(world: World) -> None:
    world.launcher = {"queue": "main", "pending_s": 1}

    def suspend(suspended: bool) -> None:
        for job in world.api.all("jobs"):
            world.api.update("jobs", job["metadata"]["name"], lambda one: one["spec"].update(suspend=suspended))

    async with world.service() as (host, channel):
        name = await submit(host, "slow")
        await world.said(host, name, "waiting for its queue: main")
        await asyncio.sleep(1.5)  # longer than a pod may wait for a node
        suspend(False)
        await world.progress(host, name)
        suspend(True)
        await world.until(lambda: attempts(world)[-1:] == ["2"])
        suspend(False)
        ended = await wait(channel, name)
        assert result(ended).digest == DIGITS
        assert metadata(ended).attempt == 2
        assert (await host.jobs.store.get(name)).failures == 0


async def test_an_order_that_asks_for_too_much_is_refused_before_it_is_accepted(world: World) -> None:
    world.demand = Demand(memory="2Gi")
    async with world.service() as (host, _):
        with pytest.raises(DemandTooWide):
            await submit(host, "fast")
        assert await host.jobs.store.page(PROJECT, size=10) == []
