"""Prometheus as `anneal up --monitoring` runs it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import psutil
import pytest

from anneal.cli import monitoring
from anneal.cli.monitoring import Prometheus, PrometheusFailed, config
from tests.fixtures.monitoring import needed, rules

pytestmark = pytest.mark.monitoring


async def test_it_reads_its_target_by_the_rules_and_is_gone_afterwards(tmp_path: Path) -> None:
    program = needed("prometheus")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{nobody.getsockname()[1]}"
    prometheus = await Prometheus.start(program, tmp_path, target=target, port=0, log=tmp_path / "logs" / "p.log")
    try:
        async with httpx2.AsyncClient(base_url=f"http://{prometheus.address}/api/v1") as client:
            known = (await client.get("/rules")).json()["data"]["groups"]
            async with asyncio.timeout(20):  # it looks for them once it is ready
                while not (targets := (await client.get("/targets")).json()["data"]["activeTargets"]):
                    await asyncio.sleep(0.1)
        assert sum(len(group["rules"]) for group in known) == len(rules())
        assert [one["scrapeUrl"] for one in targets] == [f"http://{target}/metrics"]
    finally:
        await prometheus.stop()
    assert not psutil.pid_exists(prometheus.pid)


async def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    program = needed("prometheus")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PrometheusFailed, match=r"ended at once: .*address already in use"):
            await Prometheus.start(program, tmp_path, target="127.0.0.1:1", port=port, log=tmp_path / "p.log")


CHILD = """
import asyncio, sys
from pathlib import Path
from anneal.cli.monitoring import Prometheus

async def main():
    folder = Path(sys.argv[2])
    started = await Prometheus.start(sys.argv[1], folder, target="127.0.0.1:1", port=0, log=folder / "p.log")
    print(started.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_it_dies_with_whoever_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, needed("prometheus"), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        watching = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    async with asyncio.timeout(20):
        while watching.is_running() and watching.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.1)


def test_without_the_rules_it_only_records(tmp_path: Path) -> None:
    assert "rule_files" not in config("127.0.0.1:1", tmp_path / "none")
    assert config("127.0.0.1:1")["rule_files"] == [str(monitoring.RULES / "*.yaml")]
