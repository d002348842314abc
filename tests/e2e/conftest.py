from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from tests.e2e.small_loop import anneal, small_recipe
from tests.fixtures.local_system import running

TRAFFIC_EVERY_S = 2.0


@contextmanager
def steady_traffic(url: str) -> Iterator[None]:
    """Ask the gateway now and then, as apps do: a rate needs more than the second in which the loop asks it."""
    over = threading.Event()

    def ask() -> None:
        while not over.wait(TRAFFIC_EVERY_S):
            httpx2.get(url, timeout=60)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join(60)


@pytest.fixture(scope="package")
def looped(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A system on which the small loop ran, and the folder of its report; watched, where Prometheus is installed."""
    folder = tmp_path_factory.mktemp("e2e")
    recipe = small_recipe(folder)
    with running(folder / "data", "--json", "--monitoring", "--prometheus-port", "0") as system:
        with steady_traffic(f"http://{system.http}/v1/models"):
            ran = anneal(system, "run", str(recipe), "--report", str(folder / "report"))
        assert ran.returncode == 0, ran.stdout + ran.stderr
        # A job's readings stay for minutes, not for as long as these tests may take.
        (folder / "metrics.txt").write_text(httpx2.get(f"http://{system.http}/metrics", timeout=60).text)
        yield system, folder, recipe, ran
