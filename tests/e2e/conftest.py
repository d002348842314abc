from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.e2e.small_loop import anneal, small_recipe
from tests.fixtures.local_system import running


@pytest.fixture(scope="package")
def looped(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A system on which the small loop ran, and the folder of its report; watched, where Prometheus is installed."""
    folder = tmp_path_factory.mktemp("e2e")
    recipe = small_recipe(folder)
    with running(folder / "data", "--json", "--monitoring", "--prometheus-port", "0") as system:
        ran = anneal(system, "run", str(recipe), "--report", str(folder / "report"))
        assert ran.returncode == 0, ran.stdout + ran.stderr
        # A job's readings stay for minutes, not for as long as these tests may take.
        (folder / "metrics.txt").write_text(httpx2.get(f"http://{system.http}/metrics", timeout=60).text)
        yield system, folder, recipe, ran
