"""The real client against a server that fails: conflicts, busy answers, broken connections, watches that expired."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anneal.kit.jobs.kubernetes import client, watch
from anneal.kit.jobs.kubernetes.client import Absent, Cluster, Expired, Refused, Taken, Unreachable
from anneal.kit.jobs.kubernetes.job import JobForm
from anneal.kit.jobs.kubernetes.names import OWNER
from anneal.kit.jobs.kubernetes.resources import JOBS, PODS
from anneal.kit.jobs.kubernetes.watch import Mirror
from anneal.kit.jobs.launcher import Attempt
from anneal.kit.options import LauncherOptions
from anneal.kit.settings import Misconfigured
from tests.fixtures.kubernetes_api import ApiServer, api_server

SELECTOR = f"{OWNER}=tests"


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with api_server() as server:
        yield server


@pytest.fixture
def cluster(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(client, "PAUSE_S", 0.01)
    monkeypatch.setattr(watch, "PAUSE_S", 0.05)
    return Cluster(api.kubeconfig(tmp_path), "")


@pytest.fixture
def mirror(cluster: Cluster) -> Iterator[Mirror]:
    made = Mirror(cluster, JOBS, SELECTOR)
    made.start()
    until(lambda: made.is_synced)
    yield made
    made.stop()


def job(number: int = 1, owner: str = "tests") -> dict[str, Any]:
    options = LauncherOptions(kind="kubernetes", image="i", host="h:1", owner=owner)
    attempt = Attempt(operation=f"projects/p/operations/count-{number:012}", attempt=1, config={"claim": "c"})
    return JobForm(options, Path("/var/lib/anneal")).build(attempt)


def names(mirror: Mirror) -> set[str]:
    return {thing["metadata"]["name"] for thing in mirror.all()}


def until(holds: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


# -- requests ----------------------------------------------------------------------------------------------------


def test_the_namespace_and_the_account_are_the_kubeconfigs(cluster: Cluster) -> None:
    made = cluster.create(JOBS, job())
    assert made["metadata"]["namespace"] == cluster.namespace == "anneal"
    assert cluster.get(JOBS, made["metadata"]["name"]) == made


def test_without_a_cluster_the_line_is_clear(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="service account"):
        Cluster(None, "")
    with pytest.raises(Misconfigured, match="missing"):
        Cluster(tmp_path / "missing", "")


@pytest.mark.parametrize("status", [0, 409, 429, 500, 503])
def test_what_waiting_mends_is_tried_again(api: ApiServer, cluster: Cluster, status: int) -> None:
    api.fail("create", "jobs", status=status, times=client.TRIES - 1)
    made = cluster.create(JOBS, job())
    assert api.find("jobs", made["metadata"]["name"]) is not None
    assert api.seen.count(("create", "jobs")) == client.TRIES


@pytest.mark.parametrize("status", [0, 429, 500])
def test_what_does_not_mend_is_told(api: ApiServer, cluster: Cluster, status: int) -> None:
    api.fail("create", "jobs", status=status, times=client.TRIES)
    with pytest.raises(Unreachable):
        cluster.create(JOBS, job())
    assert api.all("jobs") == []


def test_the_server_says_how_long_to_wait(api: ApiServer, cluster: Cluster) -> None:
    api.fail("create", "jobs", status=429, retry_after_s=1)
    began = time.monotonic()
    cluster.create(JOBS, job())
    assert time.monotonic() - began >= 1


def test_a_lost_answer_is_a_name_that_is_taken(api: ApiServer, cluster: Cluster) -> None:
    api.fail("create", "jobs", is_done=True)
    with pytest.raises(Taken):
        cluster.create(JOBS, job())
    assert len(api.all("jobs")) == 1


def test_a_refusal_is_not_tried_again(api: ApiServer, cluster: Cluster) -> None:
    wrong = job()
    wrong["spec"]["template"]["spec"]["hostNetwork"] = True
    with pytest.raises(Refused, match="hostNetwork"):
        cluster.create(JOBS, wrong)
    unknown = job()
    unknown["spec"]["nosuchfield"] = 1
    with pytest.raises(Refused, match="nosuchfield"):
        cluster.create(JOBS, unknown)
    api.fail("create", "jobs", status=403)
    with pytest.raises(Refused, match="403"):
        cluster.create(JOBS, job())
    assert api.seen.count(("create", "jobs")) == 3


def test_what_is_gone_stays_gone(api: ApiServer, cluster: Cluster) -> None:
    cluster.delete(JOBS, "none")
    with pytest.raises(Absent):
        cluster.get(JOBS, "none")
    made = cluster.create(JOBS, job())
    api.fail("delete", "jobs", is_done=True)  # the answer is lost: the second try finds nothing
    cluster.delete(JOBS, made["metadata"]["name"])
    assert api.all("jobs") == []


def test_lists_come_page_by_page(api: ApiServer, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAGE_SIZE", 2)
    made = {cluster.create(JOBS, job(number))["metadata"]["name"] for number in range(5)}
    cluster.create(JOBS, job(9, owner="others"))
    found, version = cluster.list(JOBS, SELECTOR)
    assert {thing["metadata"]["name"] for thing in found} == made
    assert int(version) > 0
    assert api.seen.count(("list", "jobs")) == 3
    api.fail("list", "jobs", status=410)
    with pytest.raises(Expired):
        cluster.list(JOBS, SELECTOR)


# -- the mirror --------------------------------------------------------------------------------------------------


def test_a_mirror_keeps_up(api: ApiServer, cluster: Cluster, mirror: Mirror) -> None:
    first, second = (cluster.create(JOBS, job(number))["metadata"]["name"] for number in (1, 2))
    cluster.create(JOBS, job(3, owner="others"))
    until(lambda: names(mirror) == {first, second})
    cluster.delete(JOBS, first)
    until(lambda: names(mirror) == {second})
    assert [thing["metadata"]["name"] for thing in mirror.of(("count-000000000002", 1))] == [second]
    assert mirror.of(("count-000000000001", 1)) == []
    assert api.seen.count(("list", "jobs")) == 1


def test_a_cut_watch_is_resumed_and_misses_nothing(api: ApiServer, cluster: Cluster, mirror: Mirror) -> None:
    api.fail("watch", "jobs", times=2)  # and it cannot be opened again at once
    api.cut_watches()
    made = {cluster.create(JOBS, job(number))["metadata"]["name"] for number in (1, 2)}
    until(lambda: names(mirror) == made)
    assert api.seen.count(("list", "jobs")) == 1  # it went on from the version it knew
    assert mirror.answers


def test_a_mirror_answers_again_as_soon_as_it_watches(api: ApiServer, mirror: Mirror) -> None:
    api.fail("watch", "jobs", times=3)
    api.cut_watches()
    until(lambda: not mirror.answers)
    until(lambda: mirror.answers)  # although nothing happens there


def test_what_its_account_may_not_is_told(api: ApiServer, cluster: Cluster) -> None:
    api.allowed -= {("batch", "jobs", "create")}
    with pytest.raises(Refused, match="cannot create jobs"):
        cluster.create(JOBS, job())


def test_an_expired_watch_lists_again(api: ApiServer, cluster: Cluster, mirror: Mirror) -> None:
    kept, gone = (cluster.create(JOBS, job(number))["metadata"]["name"] for number in (1, 2))
    until(lambda: names(mirror) == {kept, gone})
    api.fail("watch", "jobs", times=2)
    api.cut_watches()
    cluster.delete(JOBS, gone)
    api.compact()  # nobody will ever tell of the deletion
    until(lambda: names(mirror) == {kept})
    assert api.seen.count(("list", "jobs")) == 2


def test_bookmarks_keep_a_quiet_watch_fresh(api: ApiServer, cluster: Cluster, mirror: Mirror) -> None:
    cluster.create(JOBS, job(1, owner="others"))  # the version moves on, and nothing here changes
    until(lambda: mirror._version == str(api._version))
    api.compact()
    api.cut_watches()
    cluster.create(JOBS, job(2))
    until(lambda: len(names(mirror)) == 1)
    assert api.seen.count(("list", "jobs")) == 1


def test_a_mirror_waits_for_a_server_that_is_away(api: ApiServer, cluster: Cluster) -> None:
    api.fail("list", "pods", status=500, times=client.TRIES)
    mirror = Mirror(cluster, PODS, SELECTOR)
    mirror.start()
    try:
        until(lambda: api.seen.count(("list", "pods")) >= client.TRIES)
        until(lambda: mirror.is_synced)
        until(lambda: mirror.answers)
    finally:
        mirror.stop()
    assert not mirror._thread.is_alive()


def test_a_mirror_stops_while_its_watch_is_quiet(mirror: Mirror) -> None:
    began = time.monotonic()
    mirror.stop()
    assert not mirror._thread.is_alive()
    assert time.monotonic() - began < 3
