"""The parity certificate with the real engine: good adapters agree with training, planted bugs are far away.

Small bases with random weights are built and trained for a moment on the spot, adapters are trained on them, vLLM
serves them with and without bugs in bfloat16, and the measures and tolerances of the certificate judge the answers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.parity.adapters import BUGS, Recipe, plant, train
from benchmarks.parity.bases import Chain, write_base
from benchmarks.parity.measuring import Measured, agree, expect

DTYPES = {"cuda": "bfloat16", "cpu": "float32"}
FAMILIES = {"llama": 4, "qwen3": 2}
"""Families of bases, and their layers."""
RECIPES = tuple(
    Recipe(rank=rank, alpha=alpha, targets=("all-linear",), steps=steps, learning_rate=rate, share=0.6, seed=seed)
    for seed, (rank, alpha, steps, rate) in enumerate(
        [(8, 16.0, 30, 3e-3), (64, 32.0, 15, 3e-3), (16, 24.0, 60, 5e-3), (4, 16.0, 8, 3e-3), (32, 32.0, 40, 1e-3)]
    )
)
ROWS, SEED = 16, 5
CAUGHT = 5.0
"""Tolerances that a planted bug must be away."""
UNPROMISED = ("one layer missing",)
"""Bugs that must be refused, but may be a smaller part of the adapter than five tolerances."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A base with its adapters: name -> (folder, what training expects)."""

    family: str
    base: Path
    other: Path
    adapters: dict[str, tuple[Path, list[dict[str, Any]]]]


def prepare(folder: Path, family: str, dtype: str, device: str) -> Prepared:
    """Build a base and train its adapters."""
    layers, chain = FAMILIES[family], Chain.seeded(SEED)
    base, other = (
        write_base(folder / f"{family}-{seed}", family, layers=layers, dtype=getattr(torch, dtype), seed=seed)
        for seed in (SEED, SEED + 1)
    )
    adapters = {}
    for number, recipe in enumerate(RECIPES):
        learned, place = chain.moved(100 + recipe.seed, recipe.share), folder / f"{family}-adapter-{number}"
        train(base, place, recipe, learned)
        rows = learned.rows(ROWS, 1000 + number)
        adapters[f"{family} rank {recipe.rank}"] = (place, expect(base, place, rows, [dtype], device))
    return Prepared(family, base, other, adapters)


def serve(
    folder: Path, base: Path, device: str, adapters: dict[str, tuple[Path, list[dict[str, Any]]]]
) -> dict[str, Any]:
    """What vLLM answers with each adapter, from a process of its own.

    Raises:
        CalledProcessError: the engine failed.
    """
    request, out = folder / "request.json", folder / "answers.json"
    rows = {name: [e["token_ids"] for e in expected] for name, (_, expected) in adapters.items()}
    given = {"base": str(base), "device": device, "dtype": DTYPES[device], "rows": rows, "out": str(out)}
    given["adapters"] = {name: str(place) for name, (place, _) in adapters.items()}
    request.write_text(json.dumps(given))
    subprocess.run([sys.executable, "-m", "tests.gpu.engine", str(request)], check=True)
    answers: dict[str, Any] = json.loads(out.read_text())
    return answers


def measure(folder: Path, made: Prepared, device: str) -> Iterator[Measured]:
    """Serve every adapter of a base, whole and with each bug, and compare."""
    buggy = {
        (name, bug): plant(bug, place, folder / f"{place.name}-{number}")
        for name, (place, _) in made.adapters.items()
        for number, bug in enumerate(BUGS)
    }
    asked = {json.dumps([name, ""]): found for name, found in made.adapters.items()}
    asked.update({json.dumps(key): (place, made.adapters[key[0]][1]) for key, place in buggy.items()})
    yield from _judged(made, serve(folder, made.base, device, asked))
    on_other = {json.dumps([name, "another base"]): found for name, found in made.adapters.items()}
    yield from _judged(made, serve(folder, made.other, device, on_other))


def _judged(made: Prepared, answers: dict[str, Any]) -> Iterator[Measured]:
    for key, said in answers["said"].items():
        name, bug = json.loads(key)
        agreement = agree(made.adapters[name][1], said, answers["dtype"])
        yield Measured(name, answers["dtype"], answers["engine"], bug, agreement)


def faults(one: Measured) -> str:
    """What is wrong with a comparison; empty when it is as it must be."""
    if not one.bug:
        if one.is_refused:
            return "a good adapter is refused"
        return "a good adapter is too weak to be certified" if one.is_too_weak else ""
    if not one.is_refused:
        return "a bug is not noticed"
    if one.distance < CAUGHT and one.bug not in UNPROMISED:
        return f"a bug is less than {CAUGHT:.0f} tolerances away"
    return ""


def main() -> int:
    """Measure, print one line for each comparison, and say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=tuple(DTYPES), default="cuda")
    device = parser.parse_args().device
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="anneal-gpu-parity-") as name:
        folder = Path(name)
        for family in FAMILIES:
            for one in measure(folder, prepare(folder, family, DTYPES[device], device), device):
                fault, measured = faults(one), one.agreement
                wrong += bool(fault)
                print(
                    f"  {one.adapter:<16} {one.bug or 'good':<32} {one.distance:>10.3g} tolerances  "
                    f"largest {measured.largest:.2e}  rms {measured.rms:.2e}  rounding {measured.rounding:.1e}  "
                    f"effect {measured.effect:.2f} {measured.effect_difference:+.3f}  {fault and 'WRONG: ' + fault}",
                    flush=True,
                )
    print(f"  {wrong} comparisons are not as they must be")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
