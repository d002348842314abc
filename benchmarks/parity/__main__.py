"""The tolerances of the parity certificate: rounding alone beside planted bugs, over adapters trained for real."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.parity.adapters import Recipe, train
from benchmarks.parity.bases import ANSWER, FAMILIES, Chain, write_base
from benchmarks.parity.measuring import Measured, expect, measure_bugs, measure_good
from benchmarks.parity.report import figures
from benchmarks.parity.standins import STAND_INS
from benchmarks.results import keep, options_of, parser

ROWS = 16
"""Rows that an adapter is compared on; times `ANSWER`, its tokens."""
SEED = 1


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        adapters: adapters by number format.
        ways: stand-ins that each good adapter is served by.
        families: families of bases, in turn.
        steps: optimizer steps that a base is trained for.
        first: number of the first adapter, which decides how it is trained.
    """

    adapters: dict[str, int]
    ways: int
    families: tuple[str, ...]
    steps: int
    first: int = 0


WHOLE = Sizes({"bfloat16": 272, "float16": 32, "float32": 32}, 3, tuple(FAMILIES), 60)
SMALL = Sizes({"bfloat16": 2, "float16": 1, "float32": 1}, 1, ("llama", "qwen3"), 30, first=2)


def measure(folder: Path, sizes: Sizes) -> Iterator[Measured]:
    """Train adapters on bases of every family in turn and measure each."""
    draw, names = random.Random(SEED), sizes.families
    for number in range(sizes.first, sizes.first + max(sizes.adapters.values())):
        family, layers = names[number % len(names)], (2, 4)[number // len(names) % 2]
        key = f"{family}-{layers}"
        base, other = folder / key, folder / f"{key}-other"
        if not base.exists():
            stored = (torch.float32, torch.bfloat16)[number % 2]
            for seed, place in ((SEED, base), (SEED + 1, other)):
                write_base(place, family, layers=layers, dtype=stored, seed=seed, steps=sizes.steps)
        recipe = Recipe.drawn(SEED * 100_003 + number)
        chain = Chain.seeded(SEED).moved(recipe.seed, recipe.share)
        place = folder / f"adapter-{number}"
        train(base, place / "adapter", recipe, chain)
        dtypes = [dtype for dtype, count in sizes.adapters.items() if number - sizes.first < count]
        expected = expect(base, place / "adapter", chain.rows(ROWS, recipe.seed + 1), dtypes)
        name = f"{number} {key} rank {recipe.rank}"
        for dtype in dtypes:
            good = draw.sample(list(STAND_INS), sizes.ways)
            yield from measure_good(name, base, place / "adapter", expected, dtype, good)
            yield from measure_bugs(name, base, place / "adapter", other, expected, dtype, good[0], place)


def main() -> None:
    """Measure and keep."""
    arguments = parser(__doc__)
    arguments.add_argument("--raw", type=Path, help="write every comparison to this file as well")
    chosen = arguments.parse_args()
    options = options_of(arguments, chosen)
    sizes, found = SMALL if options.small else WHOLE, []
    torch.set_num_threads(1)  # the models are so small that a second thread mostly waits
    with tempfile.TemporaryDirectory(prefix="anneal-parity-") as folder:
        for one in measure(Path(folder), sizes):
            found.append(one)
            if chosen.raw:
                with chosen.raw.open("a") as file:
                    file.write(json.dumps(one.as_mapping()) + "\n")
    settings = {
        "command": "python -m benchmarks.parity",
        "bases": f"{', '.join(sizes.families)}; 2 and 4 layers, width 128, trained for {sizes.steps} steps",
        "adapters": "ranks 4 to 64, alpha 0.5 to 4 times the rank, 2 to 60 steps",
        "tokens_per_adapter": ROWS * ANSWER,
        "stand_ins": list(STAND_INS),
        "seed": SEED,
    }
    missed = keep("parity", figures(found), settings, options)
    if missed:
        raise SystemExit(f"bench: parity: {', '.join(figure.name for figure in missed)}")


if __name__ == "__main__":
    main()
