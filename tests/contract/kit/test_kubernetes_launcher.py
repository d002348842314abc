"""The job engine on a cluster: pods run really, as processes of a small node, and end in every way they can."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.longrunning import operations_pb2
from google.protobuf.message import Message

from anneal.kit.jobs.demand import Demand
from anneal.kit.jobs.kubernetes import client, deletions, launcher, watch
from anneal.kit.jobs.kubernetes.narrowing import DemandTooWide
from anneal.kit.jobs.kubernetes.resources import PERMISSIONS
from anneal.kit.jobs.states import State
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
from tests.fixtures.kubernetes_api import ApiServer, api_server
from tests.fixtures.kubernetes_node import Node, node
from tests.fixtures.s3 import Bucket

DIGITS = "0 1 2 3 4 5 6 7 8 9 "


def build(demand: Callable[[Message], Demand]) -> Callable[[Runtime], Service]:
    kind = JobKind(
        name="count",
        request=curation.CurateDatasetRequest,
        body="tests.contract.kit.bodies:work",
        max_attempts=2,
        demand=demand,
    )
    return lambda _runtime: Service(name="test", add=lambda _server: None, grpc_services=(), kinds=(kind,))


class World:
    """A cluster, and the settings of a service on it."""

    def __init__(self, api: ApiServer, node: Node, folder: Path, store: StoreOptions) -> None:
        self.api, self.node, self.folder, self.store = api, node, folder, store
        self.demand = Demand()
        self.lease_s = 10.0
        self.max_interruptions = 50
        self.launcher: dict[str, Any] = {}
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])

    @asynccontextmanager
    async def service(self) -> AsyncIterator[tuple[Host, grpc.aio.Channel]]:
        """The service, and a channel to it; each time it is started anew at the same address."""
        options: dict[str, Any] = {
            "kind": "kubernetes",
            "kubeconfig": self.folder / "kubeconfig",
            "owner": "tests",
            "host": f"127.0.0.1:{self.port}",
            "image": "registry.example/anneal:1",
            "scratch_claim": "scratch",
            "grace_s": 5,
            "pod": PodOptions(memory="1Gi"),
            **self.launcher,
        }
        settings = ServiceSettings(
            data_dir=self.folder / "data",
            grpc=GrpcOptions(port=self.port, drain_s=1),
            store=self.store,
            jobs=JobOptions(
                lease_s=self.lease_s, backoff_s=0.05, cancel_grace_s=20, max_interruptions=self.max_interruptions
            ),
            launcher=LauncherOptions(**options),
        )
        made = hosted(self.folder / "data", [build(lambda _request: self.demand)], settings=settings)
        async with made as host, open_aio_channel(host.address) as channel:
            yield host, channel

    async def until(self, holds: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(self.api.wait_for, holds)

    async def pod(self, phase: str = "Running", *, besides: str = "") -> str:
        """The name of the pod in a phase, once there is one."""

        def found() -> str:
            pods = [p for p in self.api.all("pods") if p["status"].get("phase") == phase]
            names = [p["metadata"]["name"] for p in pods]
            return next((name for name in names if name != besides), "")

        return str(await self.until(found))

    async def progress(self, host: Host, name: str) -> None:
        async with asyncio.timeout(30):
            while (await host.jobs.store.get(name)).progress is None:
                await asyncio.sleep(0.05)

    async def state(self, host: Host, name: str, wanted: State) -> None:
        async with asyncio.timeout(30):
            while (await host.jobs.store.get(name)).state is not wanted:
                await asyncio.sleep(0.05)

    def scratch(self, name: str) -> Path:
        """The folder that a job keeps its notes in."""
        return self.folder / "data" / "scratch" / name.rsplit("/", 1)[-1]

    async def said(self, host: Host, name: str, text: str) -> None:
        """Wait until whoever watches the job was told something."""
        async with asyncio.timeout(20):
            while True:
                events = [pb.JobEvent.FromString(p) for _, _, p in await host.jobs.store.events(name, 1)]
                if any(text in event.log.text for event in events):
                    return
                await asyncio.sleep(0.05)


@pytest.fixture
def world(tmp_path: Path, s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(client, "PAUSE_S", 0.02)
    monkeypatch.setattr(watch, "PAUSE_S", 0.05)
    monkeypatch.setattr(launcher, "GONE_S", 1.0)
    monkeypatch.setattr(launcher, "LINGER_S", 1.0)
    monkeypatch.setattr(launcher, "SETTLE_S", 0.5)
    monkeypatch.setattr(deletions, "DELETE_AGAIN_S", 0.5)
    monkeypatch.setattr(launcher, "SWEEP_EVERY_S", 0.2)
    with api_server() as api, node(api, tmp_path / "node") as machine:
        api.kubeconfig(tmp_path)
        yield World(api, machine, tmp_path, StoreOptions(url=s3_bucket.url, options=s3_bucket.options))
        assert api.asked <= PERMISSIONS


async def submit(host: Host, how: str) -> str:
    accepted: operations_pb2.Operation = await host.jobs.submit("count", order(how), project=PROJECT)
    return str(accepted.name)


def attempts(world: World) -> list[str]:
    return sorted(job["metadata"]["labels"]["anneal.dev/attempt"] for job in world.api.all("jobs"))


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
        await world.state(host, name, State.RETRYING)
        job = await host.jobs.store.get(name)
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
        await world.said(host, name, "waiting: no node takes its pod: 0/1 nodes are available")
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


async def test_a_queue_holds_a_job_and_may_take_its_place_back(world: World) -> None:
    world.launcher = {"queue": "main", "pending_s": 1}

    def suspend(suspended: bool) -> None:
        for job in world.api.all("jobs"):
            world.api.update("jobs", job["metadata"]["name"], lambda one: one["spec"].update(suspend=suspended))

    async with world.service() as (host, channel):
        name = await submit(host, "slow")
        await world.said(host, name, "waiting: in the queue main")
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


# -- the service and the API going away --------------------------------------------------------------------------


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
        await host.jobs.store.lose(name, 1, error=b"", text="gone", backoff_base_s=1000)
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
        assert metadata(ended).attempt == 2
        assert "did not answer" in metadata(ended).last_failure
        assert (await host.jobs.store.get(name)).failures == 0


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


# -- KubeRay -----------------------------------------------------------------------------------------------------


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
            name = await submit(host, "steady")
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
