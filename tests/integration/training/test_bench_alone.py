"""The bench runs where only torch, transformers, peft, safetensors and pyarrow are installed: the loop stands alone."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from anneal.training import bench
from anneal.training.domain.methods import METHODS, Full
from tests.architecture.repository import ROOT

pytestmark = pytest.mark.timeout(300)
NEEDED = ("torch", "transformers", "peft", "safetensors", "pyarrow", "numpy")
FOREIGN = (
    "grpc",
    "ray",
    "vllm",
    "sqlalchemy",
    "pydantic_settings",
    "obstore",
    "structlog",
    "google.protobuf",
)
TINY = ("--device", "cpu", "--hidden", "32", "--layers", "1", "--context", "32", "--rows", "1", "--steps", "2")


def closure(names: tuple[str, ...]) -> dict[str, Distribution]:
    """The installed distributions of these names, and all that they need."""
    found: dict[str, Distribution] = {}
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # the lock leaves it out
        for line in found[name].requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(needed.name))
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python in whose environment there is nothing else."""
    home = tmp_path_factory.mktemp("alone") / "venv"
    venv.create(home, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    for found in closure(NEEDED).values():
        for top in {file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(found.locate_file(top))))
    return home / "bin" / "python"


def run(python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "services"), "PYTHONNOUSERSITE": "1"}
    return subprocess.run([python, *words], env=environment, capture_output=True, text=True, check=False)


def test_nothing_else_is_installed_there(alone: Path) -> None:
    for name in FOREIGN:
        assert run(alone, "-c", f"import {name}").returncode == 1, name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_bench_runs_there(alone: Path, dtype: str) -> None:
    # A vocabulary whose gradient and moments, 3 x 64 MiB, show beside what every process needs: 50 MiB more or less.
    sizes = ("--hidden", "128", "--vocabulary", str(1 << 17))
    done = run(alone, "-m", "anneal.training.bench", *TINY, *sizes, "--dtype", dtype, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["dtype"], report["matmul_flops"] > 0) == (dtype, True)
    found = {one["method"]: one for one in report["methods"]}
    assert set(found) == set(METHODS)
    for one in found.values():
        assert min(one[f"{what}_tokens_per_s"] for what in ("forward", "forward_backward", "step")) > 0
        assert 0 < one["share_of_peak"] < 1
        assert one["packed_minus_alone"] <= (1e-3 if dtype == "float32" else 0.1)
    # `full` is measured first: in one process, `lora` could not show less.
    assert found["lora"]["peak_memory_bytes"] < found["full"]["peak_memory_bytes"] - (96 << 20)


def test_a_leak_is_one_line_and_no_numbers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Leaky(Full):
        """Lets a sample see its neighbours: without positions there is nothing to tell them apart by."""

        def wrap(self, base: Any) -> Any:
            forward = base.forward
            base.forward = lambda **given: forward(**{**given, "position_ids": None})
            return super().wrap(base)

    monkeypatch.setitem(METHODS, "leaky", Leaky)
    assert bench.main([*TINY, "--vocabulary", "64", "--method", "leaky", "--peak", "1e9"]) == 1
    out, said = capsys.readouterr()
    assert out == ""
    assert len(said.strip().splitlines()) == 1
    assert "bench: leaky: samples packed together see each other" in said
    assert "(PACKING_LEAKS)" in said


def test_a_method_that_fails_fails_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "services"))
    assert bench.main([*TINY, "--vocabulary", "0", "--peak", "1e9"]) == 1
