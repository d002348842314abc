"""Runs Anneal and its peers on the same rows, in turns, and tells ratios: `python -m benchmarks.curation`."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.curation import growth
from benchmarks.curation.truth import Truth, truth
from benchmarks.curation.work import NGRAM, THRESHOLD, Made, docstrings, held_out, prepared, rooms
from benchmarks.results import RESULTS, Figure, keep

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "bench-curation"
PEERS = ("text-dedup", "datatrove")
ITEMS = 50_000


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
            if subprocess.run(install, check=False, capture_output=True).returncode:
                print(f"  {peer} cannot be installed here: its figures are left out")
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


def ours(kind: str, name: str = "work", threads: int = 0) -> list[Any]:
    """The command that lets Anneal do it."""
    return [sys.executable, "-m", "benchmarks.curation.ours", kind, BUILD, name, threads]


def curated(pipeline: str, store: Path, names: str, index: str = "") -> dict[str, Any]:
    """Let Anneal curate rows, some of which may be known."""
    return timed([sys.executable, "-m", "benchmarks.curation.again", pipeline, BUILD, store, names, index])


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


def fuzzy(made: Made, pythons: dict[str, Path], true: Truth, repeats: int) -> list[Figure]:
    """Fuzzy deduplication by everyone, and how right each is."""
    commands: dict[str, Sequence[Any]] = {"Anneal": ours("fuzzy")}
    if "text-dedup" in pythons:
        commands["text-dedup"] = [pythons["text-dedup"], HERE / "peer_text_dedup.py", made.parquet, BUILD]
    commands["datasketch"] = [sys.executable, "-m", "benchmarks.curation.peer_datasketch", made.parquet, BUILD]
    if "datatrove" in pythons:
        commands["datatrove"] = [pythons["datatrove"], HERE / "peer_datatrove.py", "fuzzy", made.parquet, BUILD]
    told = in_turns(repeats, **commands)
    figures = []
    for name, one in told.items():
        figures.append(Figure(f"fuzzy: {name}", one["seconds"], "s"))
        figures.append(Figure(f"fuzzy: {name}, the whole process", one["process_s"], "s"))
        figures.append(Figure(f"fuzzy: {name}, memory", one["rss_mib"], "MiB"))
        kept = np.load(BUILD / f"kept-{'ours' if name == 'Anneal' else name}.npy")
        lost, recall = true.score(kept.tolist())
        must_lose, must_find = (0.0, 0.999) if name == "Anneal" else (None, None)
        figures.append(Figure(f"fuzzy: {name}, false removals", lost, "rows", most=must_lose))
        figures.append(Figure(f"fuzzy: {name}, recall of duplicate rows", recall, "", least=must_find))
    for name in commands.keys() - {"Anneal"}:
        least = 12.0 if name == "text-dedup" else None
        ratio = told[name]["seconds"] / told["Anneal"]["seconds"]
        figures.append(Figure(f"fuzzy: faster than {name}", ratio, "x", least=least))
    return figures


def per_core(kind: str, made: Made, pythons: dict[str, Path], items: Path, least: float, repeats: int) -> list[Figure]:
    """A filter on one core by Anneal and datatrove."""
    commands: dict[str, Sequence[Any]] = {"Anneal": ours(kind, threads=1)}
    if "datatrove" in pythons:
        script = HERE / "peer_datatrove.py"
        commands["datatrove"] = [pythons["datatrove"], script, kind, made.parquet, BUILD, items]
    told = in_turns(repeats, **commands)
    size = made.size_bytes / 1e6
    figures = [Figure(f"{kind}: {name}, one core", size / one["seconds"], "MB/s") for name, one in told.items()]
    if "datatrove" in told:
        ratio = told["datatrove"]["seconds"] / told["Anneal"]["seconds"]
        figures.append(Figure(f"{kind}: faster than datatrove", ratio, "x", least=least))
    return figures


def again(times: int) -> int:
    """Measure what 1 % more rows cost once more, and keep it beside the other figures of the last run."""
    told = json.loads((RESULTS / "curation.json").read_text(encoding="utf-8"))
    others = [Figure(**one) for one in told["figures"] if not one["name"].startswith("incremental")]
    figures = [*others, *growth.incremental(BUILD, prepared(BUILD, "work", docstrings()), times, curated)]
    shutil.rmtree(rooms(BUILD))
    settings = {**told["settings"], "incremental_measured_again": "python -m benchmarks.curation --only-incremental"}
    return 1 if keep("curation", figures, settings) else 0


def main() -> int:
    """Measure, print and keep; 1 where a figure is not what it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, of which the median counts")
    parser.add_argument("--growth", type=int, default=10, help="how many times the rows for growth, at most 13")
    parser.add_argument("--only-incremental", action="store_true", help="measure that again, keep all other figures")
    chosen = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    if chosen.only_incremental:
        return again(chosen.growth)
    pythons = environments(BUILD)
    made = prepared(BUILD, "work", docstrings())
    items = held_out(BUILD, made, ITEMS)
    print("  the truth", flush=True)
    start = time.perf_counter()
    true = truth(pq.read_table(made.parquet, columns=["text"]).column("text").to_pylist(), NGRAM, THRESHOLD)
    took_s = time.perf_counter() - start
    print(f"  {true.pairs:,} pairs, {true.duplicates:,} duplicate rows in {took_s:.0f} s", flush=True)
    figures = fuzzy(made, pythons, true, chosen.repeats)
    # It takes less than a second, so that one slow moment would decide.
    exact = in_turns(2 * chosen.repeats + 1, Anneal=ours("exact"))["Anneal"]
    figures.append(Figure("exact: Anneal", made.size_bytes / exact["seconds"] / 1e6, "MB/s", least=150.0))
    figures += per_core("rules", made, pythons, items, 5.0, chosen.repeats)
    figures += per_core("ngrams", made, pythons, items, 10.0, chosen.repeats)
    figures += growth.figures(BUILD, made, chosen.growth, lambda name: timed(ours("fuzzy", name)))
    figures += growth.incremental(BUILD, made, chosen.growth, curated)
    settings: dict[str, Any] = {
        "rows": made.rows,
        "text_mb": round(made.size_bytes / 1e6, 1),
        "threshold": THRESHOLD,
        "ngram": NGRAM,
    }
    settings |= {
        "true_pairs": true.pairs,
        "duplicate_rows": true.duplicates,
        "median_of": chosen.repeats,
        "datatrove_runs": 1,
    }
    settings |= {"benchmark_items": ITEMS, "growth": chosen.growth, "command": "make bench-curation"}
    shutil.rmtree(rooms(BUILD))
    missed = keep("curation", figures, settings)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
