"""Runs Anneal and its peers on the same rows, in turns, and tells ratios: `python -m benchmarks.curation`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.curation import growth
from benchmarks.curation.truth import Truth, truth
from benchmarks.curation.work import NGRAM, THRESHOLD, Made, docstrings, held_out, prepared, rooms
from benchmarks.results import Figure, NotComparable, Options, check_comparable, keep, last, machine, options_of, parser

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "bench-curation"
PEERS = ("text-dedup", "datatrove")
SMALL_ROWS = 1_500


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured, and how often.

    Attributes:
        rows: of the docstrings; None takes all.
        items: of the benchmark.
        repeats: runs of each, of which the median counts.
        exact_repeats: runs of exact deduplication, which takes less than a second: one slow moment would decide.
        growth: how many times the rows for growth.
        runs: of growth, and of what 1 % more rows cost; None takes what these files say.
    """

    rows: int | None
    items: int
    repeats: int
    exact_repeats: int
    growth: int
    runs: int | None

    @property
    def times(self) -> dict[str, int]:
        """`runs` as an argument, where it is said."""
        return {} if self.runs is None else {"runs": self.runs}


def environments(folder: Path) -> dict[str, Path]:
    """The interpreters of the peers that can be installed here; others are named."""
    found = {}
    for peer in PEERS:
        home = folder / f"env-{peer}"
        python = home / "bin" / "python"
        done = home / "installed"
        pins = HERE / f"{peer}.txt"
        if not done.exists() or done.read_text(encoding="utf-8") != pins.read_text(encoding="utf-8"):
            print(f"  installing {peer}", flush=True)
            subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
            install = [str(python), "-m", "pip", "install", "--quiet", "-r", str(pins)]
            done_by = subprocess.run(install, check=False, capture_output=True, text=True)
            if done_by.returncode:
                why = (done_by.stderr.strip().splitlines() or ["pip said nothing"])[-1]
                print(f"  {peer} cannot be installed here, so its figures are left out: {why}")
                continue
            done.write_text(pins.read_text(encoding="utf-8"), encoding="utf-8")
        found[peer] = python
    return found


def timed(command: Sequence[Any]) -> dict[str, Any]:
    """Run one piece of work in a process of its own; what it says, and how long the whole process took.

    Raises:
        RuntimeError: it failed.
    """
    start = time.perf_counter()
    done = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stderr[-4000:]}")
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**told, "process_s": time.perf_counter() - start}


def ours(build: Path, kind: str, name: str = "work", threads: int = 0) -> list[Any]:
    """The command that lets Anneal do it."""
    return [sys.executable, "-m", "benchmarks.curation.ours", kind, build, name, threads]


def curated(build: Path, pipeline: str, store: Path, names: str, index: str = "") -> dict[str, Any]:
    """Let Anneal curate rows, some of which may be known."""
    return timed([sys.executable, "-m", "benchmarks.curation.again", pipeline, build, store, names, index])


def in_turns(repeats: int, **commands: Sequence[Any]) -> dict[str, dict[str, float]]:
    """Run each several times, one after the other in turns, and the slowest once; the median of each figure."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for turn in range(repeats):
        for name, command in commands.items():
            if turn and name == "datatrove":
                continue
            runs[name].append(timed(command))
            print(f"  {name}: {runs[name][-1]['seconds']:.2f} s", flush=True)
    return {name: {key: median(run[key] for run in told) for key in told[0]} for name, told in runs.items()}


def fuzzy(build: Path, made: Made, pythons: dict[str, Path], true: Truth, repeats: int) -> list[Figure]:
    """Fuzzy deduplication by everyone, and how right each is."""
    commands: dict[str, Sequence[Any]] = {"Anneal": ours(build, "fuzzy")}
    if "text-dedup" in pythons:
        commands["text-dedup"] = [pythons["text-dedup"], HERE / "peer_text_dedup.py", made.parquet, build]
    commands["datasketch"] = [sys.executable, "-m", "benchmarks.curation.peer_datasketch", made.parquet, build]
    if "datatrove" in pythons:
        commands["datatrove"] = [pythons["datatrove"], HERE / "peer_datatrove.py", "fuzzy", made.parquet, build]
    told = in_turns(repeats, **commands)
    figures = []
    for name, one in told.items():
        figures.append(Figure(f"fuzzy: {name}", one["seconds"], "s"))
        figures.append(Figure(f"fuzzy: {name}, the whole process", one["process_s"], "s"))
        figures.append(Figure(f"fuzzy: {name}, memory", one["rss_mib"], "MiB"))
        kept = np.load(build / f"kept-{'ours' if name == 'Anneal' else name}.npy")
        lost, recall = true.score(kept.tolist())
        must_lose, must_find = (0.0, 0.999) if name == "Anneal" else (None, None)
        figures.append(Figure(f"fuzzy: {name}, false removals", lost, "rows", most=must_lose))
        figures.append(Figure(f"fuzzy: {name}, recall of duplicate rows", recall, "", least=must_find))
    for name in commands.keys() - {"Anneal"}:
        least = 12.0 if name == "text-dedup" else None
        ratio = told[name]["seconds"] / told["Anneal"]["seconds"]
        figures.append(Figure(f"fuzzy: faster than {name}", ratio, "x", least=least))
    return figures


def per_core(
    build: Path, kind: str, made: Made, pythons: dict[str, Path], items: Path, least: float, repeats: int
) -> list[Figure]:
    """A filter on one core by Anneal and datatrove."""
    commands: dict[str, Sequence[Any]] = {"Anneal": ours(build, kind, threads=1)}
    if "datatrove" in pythons:
        script = HERE / "peer_datatrove.py"
        commands["datatrove"] = [pythons["datatrove"], script, kind, made.parquet, build, items]
    told = in_turns(repeats, **commands)
    size = made.size_bytes / 1e6
    figures = [Figure(f"{kind}: {name}, one core", size / one["seconds"], "MB/s") for name, one in told.items()]
    if "datatrove" in told:
        ratio = told["datatrove"]["seconds"] / told["Anneal"]["seconds"]
        figures.append(Figure(f"{kind}: faster than datatrove", ratio, "x", least=least))
    return figures


def again(build: Path, size: Size, options: Options) -> int:
    """Measure what 1 % more rows cost once more, and keep it beside the other figures of the last run.

    Raises:
        NotComparable: there are none, or they are of another processor.
    """
    told = last("curation", options.results)
    if told is None:
        raise NotComparable(f"there are no figures of curation in {options.results} to put new ones beside")
    check_comparable(told["machine"], machine())
    others = [Figure(**one) for one in told["figures"] if not one["name"].startswith("incremental")]
    made = prepared(build, "work", rows_of(size))
    figures = [*others, *growth.incremental(build, made, size.growth, partial(curated, build), **size.times)]
    shutil.rmtree(rooms(build))
    settings = {**told["settings"], "incremental_measured_again": "python -m benchmarks.curation --only-incremental"}
    return 1 if keep("curation", figures, settings, options) else 0


def rows_of(size: Size) -> Iterator[tuple[str, str]]:
    """The rows that are measured."""
    return islice(docstrings(), size.rows)


def measure(build: Path, size: Size, options: Options) -> int:
    """Measure everything; 1 where a figure is not what it must be."""
    pythons = {} if options.small else environments(build)
    made = prepared(build, "work", rows_of(size))
    items = held_out(build, made, size.items)
    print("  the truth", flush=True)
    start = time.perf_counter()
    true = truth(pq.read_table(made.parquet, columns=["text"]).column("text").to_pylist(), NGRAM, THRESHOLD)
    took_s = time.perf_counter() - start
    print(f"  {true.pairs:,} pairs, {true.duplicates:,} duplicate rows in {took_s:.0f} s", flush=True)
    figures = fuzzy(build, made, pythons, true, size.repeats)
    exact = in_turns(size.exact_repeats, Anneal=ours(build, "exact"))["Anneal"]
    figures.append(Figure("exact: Anneal", made.size_bytes / exact["seconds"] / 1e6, "MB/s", least=150.0))
    figures += per_core(build, "rules", made, pythons, items, 5.0, size.repeats)
    figures += per_core(build, "ngrams", made, pythons, items, 10.0, size.repeats)
    fuzzily = partial(ours, build, "fuzzy")
    figures += growth.figures(build, made, size.growth, lambda name: timed(fuzzily(name)), **size.times)
    figures += growth.incremental(build, made, size.growth, partial(curated, build), **size.times)
    settings: dict[str, Any] = {
        "rows": made.rows,
        "text_mb": round(made.size_bytes / 1e6, 1),
        "threshold": THRESHOLD,
        "ngram": NGRAM,
    }
    settings |= {
        "true_pairs": true.pairs,
        "duplicate_rows": true.duplicates,
        "median_of": size.repeats,
        "datatrove_runs": 1,
    }
    settings |= {"benchmark_items": size.items, "growth": size.growth, "command": "make bench-curation"}
    shutil.rmtree(rooms(build))
    return 1 if keep("curation", figures, settings, options) else 0


def main() -> int:
    """Measure, print and keep; 1 where a figure is not what it must be."""
    arguments = parser(__doc__)
    arguments.add_argument("--repeats", type=int, default=3, help="runs of each, of which the median counts")
    arguments.add_argument("--growth", type=int, default=10, help="how many times the rows for growth, at most 13")
    arguments.add_argument("--only-incremental", action="store_true", help="measure that again, keep all other figures")
    chosen = arguments.parse_args()
    options = options_of(arguments, chosen)
    size = Size(None, 50_000, chosen.repeats, 2 * chosen.repeats + 1, chosen.growth, None)
    build = BUILD
    if options.small:
        size, build = Size(SMALL_ROWS, 50, 1, 1, 2, 1), options.results / "build"
    build.mkdir(parents=True, exist_ok=True)
    if not chosen.only_incremental:
        return measure(build, size, options)
    try:
        return again(build, size, options)
    except NotComparable as error:
        print(f"bench: {error}; measure all of it: make bench-curation", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
