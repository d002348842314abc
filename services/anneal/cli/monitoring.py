"""Prometheus beside `anneal up`: watches this system with the repository's rules, where it is installed."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

import anneal
from anneal.kit.tied import tied

RULES = Path(anneal.__file__).resolve().parents[2] / "deploy" / "prometheus" / "rules"
"""They are in a checkout; an installed wheel has none, and Prometheus then only records."""
SCRAPE_S = 5
RETENTION = "15d"
READY_S = 30.0
STOP_S = 10.0
NOT_INSTALLED = "prometheus is not on PATH, so nothing watches (Debian and Ubuntu: apt-get install prometheus)"


class PrometheusFailed(Exception):
    """Prometheus did not start; the text holds its last words."""


def executable() -> str | None:
    """The program, when it is installed."""
    return shutil.which("prometheus")


def config(target: str, rules: Path = RULES) -> dict[str, Any]:
    """What Prometheus is told: whom to read, and the rules to evaluate, where there are some."""
    return {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "scrape_configs": [{"job_name": "anneal", "static_configs": [{"targets": [target]}]}],
        **({"rule_files": [str(rules / "*.yaml")]} if rules.is_dir() else {}),
    }


class Prometheus:
    """A running Prometheus. It ends with this process, whatever ends that."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, log: Path) -> None:
        self.address = address
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @classmethod
    async def start(cls, program: str, folder: Path, *, target: str, port: int, log: Path) -> Prometheus:
        """Start it on loopback, and wait until it answers.

        Args:
            program: the executable.
            folder: for its configuration and its data, which are kept between runs.
            target: `host:port` whose `/metrics` it reads.
            port: 0 takes a free one.
            log: file for what it prints.

        Raises:
            PrometheusFailed: it ended, or did not answer in time.
        """
        folder.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        settings = folder / "prometheus.yaml"
        settings.write_text(yaml.safe_dump(config(target), sort_keys=False))
        address = f"127.0.0.1:{port or _free_port()}"
        with log.open("ab") as out:
            # Not in a worker thread: Linux would tie the child's life to that thread, not to this process.
            process = subprocess.Popen(
                tied(
                    [
                        program,
                        f"--config.file={settings}",
                        f"--storage.tsdb.path={folder / 'data'}",
                        f"--storage.tsdb.retention.time={RETENTION}",
                        f"--web.listen-address={address}",
                    ]
                ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        started = cls(process, address, log)
        try:
            await started._ready()
        except BaseException:
            await started.stop()
            raise
        return started

    async def _ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise PrometheusFailed(f"Prometheus ended at once: {self._last_line()}")
            if await asyncio.to_thread(_answers, f"http://{self.address}/-/ready"):
                return
            await asyncio.sleep(0.1)
        raise PrometheusFailed(f"Prometheus did not answer within {READY_S:.0f} s; its log is {self._log}")

    def _last_line(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it left no word in {self._log}"

    async def stop(self) -> None:
        """Let it write down what it holds, and end it."""
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    """A port nobody has right now; Prometheus itself would take one and not say which."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
