"""The loop with small sizes, run as a person would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.fixtures.local_system import System

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "python-docs"


def small_recipe(folder: Path) -> Path:
    """The example's recipe with one task, a few pages and little training."""
    recipe: dict[str, Any] = yaml.safe_load((EXAMPLE / "recipe.yaml").read_text())
    task = next(task for task in recipe["tasks"] if task["name"] == "kind")
    task["policy"] = [{"metric": "perplexity", "min_gain": 0.0}]
    recipe["documents"]["files"] = [str(EXAMPLE / "python-3.11-docs.tar.xz")]
    recipe["documents"]["include"] = ["library/[a-e]*.html"]
    recipe["base_model"]["folder"] = str(EXAMPLE.parent / "tiny-base" / "model")
    recipe["tasks_file"] = str(EXAMPLE / "tasks.yaml")
    recipe["training"].update(epochs=1, max_rows=160)
    recipe.update(tasks=[task], evaluation_rows=40, min_scored_rows=20, ask={"questions": 1})
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def anneal(system: System, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command against a system, as a person would."""
    command = [sys.executable, "-m", "anneal.cli", "--address", system.grpc, "--http", system.http, *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, check=False)


def samples(page: str, name: str) -> list[float]:
    """The values of a metric on a page, whatever their labels; its HELP line is none."""
    return [float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE)]
