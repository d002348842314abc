"""Rows of which some may be known, timed: `python -m benchmarks.curation.again PIPELINE FOLDER STORE NAMES [INDEX]`.

NAMES are joined by `+`; STORE is the folder of the store for what is made. It prints JSON. What is
imported and compiled is so before the clock starts, and what was written before is on the disk.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from anneal.curation.domain.engine import NamedStep
from anneal.curation.domain.pipelines import PIPELINES
from anneal.curation.domain.steps import STEPS
from anneal.kit.store import Store
from benchmarks.curation.ours import run, steps_of
from benchmarks.curation.work import Made, room, store_of

WARM = ("new-0", "more-0")


def _documents() -> list[NamedStep]:
    """The ready pipeline without its benchmarks, of which there are none here."""
    steps = []
    for name, settings in PIPELINES["documents"]:
        if name != "decontaminate":
            step: Any = STEPS[name](**settings)
            steps.append(NamedStep(name, step, repr((name, settings))))
    return steps


def _digest(folder: Path, name: str) -> str:
    return Made(**json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))).digest


def main() -> None:
    """Do it and say how it went."""
    pipeline, folder, output, names, *index = sys.argv[1:]
    home = Path(folder)
    steps = _documents() if pipeline == "documents" else steps_of(pipeline, home)
    rows, made = store_of(home), Store(output, home / "cache")
    first, second = (_digest(home, name) for name in WARM)
    with room(home) as scratch:
        warm = Store(str(scratch / "store"), home / "cache")
        *_, known = run(steps, rows, [first], scratch / "first", output=warm, keeps=True)
        run(steps, rows, [first, second], scratch / "second", output=warm, index=known, keeps=True)
        os.sync()
        digests = [_digest(home, name) for name in names.split("+")]
        seconds, cpu_s, _, digest, kept = run(
            steps, rows, digests, scratch / "work", output=made, index="".join(index), keeps=True
        )
    print(json.dumps({"seconds": seconds, "cpu_s": cpu_s, "digest": digest, "index": kept}))


if __name__ == "__main__":
    main()
