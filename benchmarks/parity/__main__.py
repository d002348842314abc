"""The tolerances of the parity certificate: rounding alone beside planted bugs, over adapters trained for real."""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.parity.adapters import Recipe, train
from benchmarks.parity.bases import FAMILIES, Chain, write_base
from benchmarks.parity.measuring import Measured, expect, measure_bugs, measure_good
from benchmarks.parity.report import report
from benchmarks.parity.standins import STAND_INS

ROWS = 16
"""Rows that an adapter is compared on; times `ANSWER`, its tokens."""


def measure(folder: Path, *, num_adapters: int, dtypes: tuple[str, ...], ways: int, seed: int) -> Iterator[Measured]:
    """Train adapters on bases of every family in turn and measure each."""
    draw, names = random.Random(seed), list(FAMILIES)
    bases: dict[str, tuple[Path, Path]] = {}
    for number in range(num_adapters):
        family, layers = names[number % len(names)], (2, 4)[number // len(names) % 2]
        key = f"{family}-{layers}"
        if key not in bases:
            stored = (torch.float32, torch.bfloat16)[len(bases) % 2]
            bases[key] = (
                write_base(folder / key, family, layers=layers, dtype=stored, seed=seed),
                write_base(folder / f"{key}-other", family, layers=layers, dtype=stored, seed=seed + 1),
            )
        base, other = bases[key]
        recipe = Recipe.drawn(seed * 100_003 + number)
        chain = Chain.seeded(seed).moved(recipe.seed, recipe.share)
        place = folder / f"adapter-{number}"
        train(base, place / "adapter", recipe, chain)
        expected = expect(base, place / "adapter", chain.rows(ROWS, recipe.seed + 1), dtypes)
        name = f"{number} {key} rank {recipe.rank}"
        for dtype in dtypes:
            good = draw.sample(list(STAND_INS), min(ways, len(STAND_INS)))
            yield from measure_good(name, base, place / "adapter", expected, dtype, good)
            yield from measure_bugs(name, base, place / "adapter", other, expected, dtype, good[0], place)


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapters", type=int, default=240)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16", "float16"])
    parser.add_argument("--ways", type=int, default=3, help="stand-ins that each good adapter is served by")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--raw", type=Path, help="write every comparison to this file as well")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    start, found = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="anneal-parity-") as folder:
        for one in measure(
            Path(folder),
            num_adapters=chosen.adapters,
            dtypes=tuple(chosen.dtypes),
            ways=chosen.ways,
            seed=chosen.seed,
        ):
            found.append(one)
            if chosen.raw:
                with chosen.raw.open("a") as file:
                    file.write(json.dumps(one.told()) + "\n")
    report(found, {"command": "python -m benchmarks.parity", "seed": chosen.seed}, time.monotonic() - start)


if __name__ == "__main__":
    main()
