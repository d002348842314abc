"""The commands that wait for a job, or list jobs, show what it waits for, in the cluster's words."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.fixtures.kubernetes_world import World, submit

NO_NODE = "0/1 nodes are available: 1 Insufficient cpu"


def run(address: str, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "anneal.cli", "--address", address, "--project", "test", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


@pytest.mark.parametrize("as_json", [False, True])
async def test_jobs_list_and_jobs_watch_show_the_wait(world: World, as_json: bool) -> None:
    world.node.full = NO_NODE
    flags = ["--json"] if as_json else []
    async with world.service() as (host, channel):
        name = await submit(host, "fast")
        await world.pending(channel, name, NO_NODE)
        listed = await asyncio.to_thread(run, host.address, [*flags, "jobs", "list"])
        assert f"waiting for a node: {NO_NODE}" in listed.stdout
        if as_json:
            (job,) = json.loads(listed.stdout)
            assert job["progress"]["pending_reason"] == "PENDING_REASON_NODE"
        watching = asyncio.create_task(asyncio.to_thread(run, host.address, [*flags, "jobs", "watch", name]))
        await asyncio.sleep(3)
        world.node.full = ""
        watched = await watching
        assert f"waiting for a node: {NO_NODE}" in (watched.stderr if as_json else watched.stdout)
        if as_json:
            assert json.loads(watched.stdout)["name"] == name
        again = await asyncio.to_thread(run, host.address, [*flags, "jobs", "list"])
        assert "waiting" not in again.stdout
