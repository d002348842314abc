"""What happens when there are many times the rows, and when there are a few more than last time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from anneal.curation.domain.engine import NamedStep
from anneal.curation.domain.pipelines import PIPELINES
from anneal.curation.domain.steps import STEPS
from benchmarks.curation.ours import run, steps_of
from benchmarks.curation.work import Made, docstrings, grown, in_alphabet, prepared, room, store_of
from benchmarks.results import Figure

RUNS, KNOWN_RUNS = 5, 3
SLOPE_ROWS, SLOPE_MIB = 10_000_000, 4096


def figures(folder: Path, made: Made, times: int, measure: Callable[[str], dict[str, float]]) -> Iterator[Figure]:
    """Time and memory of many times the rows beside those of the rows.

    Args:
        folder: where rows are kept.
        made: the rows.
        times: how many times as many; for the slope of memory twice as many again.
        measure: runs fuzzy deduplication of the rows of a name.
    """
    many = grown(folder, f"work-{times}", made, times)
    more = grown(folder, f"work-{2 * times}", made, 2 * times)
    # In turns, and the short run before and after the long one, because machines are not as fast at every time.
    runs: dict[str, list[dict[str, float]]] = {"work": [], f"work-{times}": []}
    for name in ("work", f"work-{times}", "work") * RUNS:
        runs[name].append(measure(name))
    few_s, many_s = (median(run["seconds"] for run in told) for told in runs.values())
    print(f"  {times} times the rows: {few_s:.2f} s, then {many_s:.2f} s", flush=True)
    yield Figure(f"growth: time of {times} times the rows", many_s / few_s, "x", most=1.1 * times)
    few_mib, many_mib = (max(run["rss_mib"] for run in told) for told in runs.values())
    more_mib = measure(f"work-{2 * times}")["rss_mib"]
    yield Figure(f"growth: memory of {made.rows:,} rows", few_mib, "MiB")
    yield Figure(f"growth: memory of {many.rows:,} rows", many_mib, "MiB")
    yield Figure(f"growth: memory of {more.rows:,} rows", more_mib, "MiB")
    slope = (more_mib - many_mib) / (more.rows - many.rows)
    by_slope = more_mib + slope * (SLOPE_ROWS - more.rows)
    yield Figure(f"growth: memory of {SLOPE_ROWS:,} rows, by the slope", by_slope, "MiB", most=SLOPE_MIB)


def incremental(folder: Path, made: Made, times: int) -> Iterator[Figure]:
    """The time that 1 % more rows cost of many times the rows.

    Args:
        folder: where rows are kept.
        made: the rows.
        times: how many times as many.
    """
    many = grown(folder, f"work-{times}", made, times)
    new = prepared(folder, "work-new", in_alphabet(islice(docstrings(), many.rows // 100), times))
    yield from _more(folder, many, new, "the pipeline `documents`", _documents(), 2.0)
    fuzzy = steps_of("fuzzy", folder)
    yield from _more(folder, many, new, "fuzzy duplicates alone", fuzzy, None)
    like = ((f"more/{file}", f"{text} once more") for file, text in islice(docstrings(), many.rows // 100))
    varied = prepared(folder, "work-more", like)
    yield from _more(folder, many, varied, "fuzzy duplicates alone, longer than old rows that they repeat", fuzzy, None)


def _documents() -> list[NamedStep]:
    """The ready pipeline without its benchmarks, of which there are none here."""
    steps = []
    for name, settings in PIPELINES["documents"]:
        if name != "decontaminate":
            step: Any = STEPS[name](**settings)
            steps.append(NamedStep(name, step, repr((name, settings))))
    return steps


def _more(
    folder: Path, many: Made, new: Made, what: str, steps: Sequence[NamedStep], most: float | None
) -> Iterator[Figure]:
    """One in a hundred rows more than last time, with what is known of the others and without."""
    store = store_of(folder)
    with room(folder) as scratch:
        # What is imported and compiled is so before the clock starts, and what was written before is on the disk.
        *_, index = run(steps, store, [new.digest], scratch / "warm", keeps=True)
        run(steps, store, [new.digest, new.digest], scratch / "warmer", index=index, keeps=True)
        *_, index = run(steps, store, [many.digest], scratch / "before", output=store, keeps=True)
        both = [many.digest, new.digest]
        told = []
        for turn in range(KNOWN_RUNS):
            os.sync()
            told.append(run(steps, store, both, scratch / f"known-{turn}", output=store, index=index, keeps=True))
        known_s, known = median(seconds for seconds, *_ in told), told[0][3]
        os.sync()
        whole_s, _, _, whole, _ = run(steps, store, both, scratch / "whole", keeps=True)
    if known != whole:
        raise AssertionError(f"{what}: with what was known the result is {known}, from scratch it is {whole}")
    print(f"  1 % more rows, {what}: {known_s:.2f} s, from scratch {whole_s:.2f} s", flush=True)
    yield Figure(f"incremental: {what}, 1 % more rows, share of the time", 100 * known_s / whole_s, "%", most=most)
    yield Figure(f"incremental: {what}, 1 % more rows", known_s, "s")
    yield Figure(f"incremental: {what}, from scratch", whole_s, "s")
