"""Every benchmark runs to its end on small inputs and leaves figures of the right shape."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anneal.kit.processor import MATRIX_FLAGS
from benchmarks.__main__ import SUBJECTS
from tests.architecture.repository import ROOT

pytestmark = pytest.mark.timeout(900)
SOME_OF = {
    "ingest": ("corpus, unpacked and parsed", "JSONL, over the service, file"),
    "training": ("float32: matrix products", "bfloat16, lora: optimizer steps", "full: bfloat16 over float32, steps"),
    "serving": (
        "bare engine, 1 stream, base model",
        "vLLM's server, 2 streams, with adapter",
        "gateway / bare engine, 2 streams, base model",
    ),
    "parity": (
        "bfloat16: adapters",
        "bfloat16: scale halved",
        "bfloat16: one token of the prompt, same ids claimed",
        "float32: another base",
    ),
    "curation": ("fuzzy: Anneal", "ngrams: Anneal, one core", "incremental: fuzzy duplicates alone, 1 % more rows"),
}
"""Figures that a subject must have, from the first and the last of what it measures."""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *words, "--small", "--results", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "subject", [pytest.param(s, marks=pytest.mark.vllm if s == "serving" else ()) for s in SUBJECTS]
)
def test_a_benchmark_runs_and_leaves_its_figures(tmp_path: Path, subject: str) -> None:
    done = run(tmp_path, subject)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    kept: dict[str, Any] = json.loads((tmp_path / f"{subject}.json").read_text())
    assert (kept["subject"], kept["small"]) == (subject, True)
    machine = kept["machine"]
    assert machine["processor"]
    assert machine["cores"] > 0
    assert set(machine["flags"]) <= set(MATRIX_FLAGS)
    assert kept["settings"]["command"]
    figures = {figure["name"]: figure for figure in kept["figures"]}
    assert len(figures) == len(kept["figures"]), "no name twice"
    assert set(SOME_OF[subject]) <= set(figures)
    for figure in figures.values():
        assert set(figure) <= {"name", "value", "unit", "least", "most"}
        assert math.isfinite(figure["value"])
        assert figure["name"] in done.stdout


def test_every_benchmark_is_one_of_the_subjects() -> None:
    folder = ROOT / "benchmarks"
    with_main = {path.stem for path in folder.glob("*.py") if 'if __name__ == "__main__"' in path.read_text()}
    with_main |= {path.parent.name for path in folder.glob("*/__main__.py")}
    assert with_main - {"__main__"} == set(SUBJECTS) == set(SOME_OF)
