"""What happens when there are many times the rows, and when there are a few more than last time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.curation.work import Made, docstrings, grown, in_alphabet, prepared, room
from benchmarks.results import Figure

RUNS, KNOWN_RUNS = 5, 3
SLOPE_ROWS, SLOPE_MIB = 10_000_000, 4096


def figures(
    folder: Path, made: Made, times: int, measure: Callable[[str], dict[str, float]], runs: int = RUNS
) -> Iterator[Figure]:
    """Time and memory of many times the rows beside those of the rows.

    Args:
        folder: where rows are kept.
        made: the rows.
        times: how many times as many; for the slope of memory twice as many again.
        measure: runs fuzzy deduplication of the rows of a name.
        runs: how often, in turns.
    """
    many = grown(folder, f"work-{times}", made, times)
    more = grown(folder, f"work-{2 * times}", made, 2 * times)
    # In turns, and the short run before and after the long one, because machines are not as fast at every time.
    found: dict[str, list[dict[str, float]]] = {"work": [], f"work-{times}": []}
    for name in ("work", f"work-{times}", "work") * runs:
        found[name].append(measure(name))
    few_s, many_s = (median(run["seconds"] for run in told) for told in found.values())
    print(f"  {times} times the rows: {few_s:.2f} s, then {many_s:.2f} s", flush=True)
    yield Figure(f"growth: time of {times} times the rows", many_s / few_s, "x", most=1.1 * times)
    few_mib, many_mib = (max(run["rss_mib"] for run in told) for told in found.values())
    more_mib = measure(f"work-{2 * times}")["rss_mib"]
    yield Figure(f"growth: memory of {made.rows:,} rows", few_mib, "MiB")
    yield Figure(f"growth: memory of {many.rows:,} rows", many_mib, "MiB")
    yield Figure(f"growth: memory of {more.rows:,} rows", more_mib, "MiB")
    slope = (more_mib - many_mib) / (more.rows - many.rows)
    by_slope = more_mib + slope * (SLOPE_ROWS - more.rows)
    yield Figure(f"growth: memory of {SLOPE_ROWS:,} rows, by the slope", by_slope, "MiB", most=SLOPE_MIB)


def incremental(
    folder: Path, made: Made, times: int, measure: Callable[..., dict[str, Any]], runs: int = KNOWN_RUNS
) -> Iterator[Figure]:
    """The time that 1 % more rows cost of many times the rows.

    Args:
        folder: where rows are kept.
        made: the rows.
        times: how many times as many.
        measure: curates rows of some names by a pipeline, in a process of its own (`again.py`).
        runs: how often, with other rows each time.
    """
    many = grown(folder, f"work-{times}", made, times)
    few = many.rows // 100
    for turn in range(runs + 1):
        prepared(folder, f"new-{turn}", in_alphabet(islice(docstrings(), few), times + turn))
        like = islice(docstrings(), turn * few, (turn + 1) * few)
        prepared(folder, f"more-{turn}", ((f"more/{file}", f"{text} once more") for file, text in like))
    documents, fuzzy = "the pipeline `documents`", "fuzzy duplicates alone"
    before = f"work-{times}"
    yield from _more(folder, before, "new", "documents", documents, 2.0, measure, runs)
    yield from _more(folder, before, "new", "fuzzy", fuzzy, None, measure, runs)
    longer = f"{fuzzy}, longer than old rows that they repeat"
    yield from _more(folder, before, "more", "fuzzy", longer, None, measure, runs)


def _more(
    folder: Path,
    old: str,
    new: str,
    pipeline: str,
    what: str,
    most: float | None,
    measure: Callable[..., Any],
    runs: int,
) -> Iterator[Figure]:
    """One in a hundred rows more than last time, others each time, with what is known of the rest and without."""
    with room(folder) as store:
        index = measure(pipeline, store, old)["index"]
        told = [measure(pipeline, store, f"{old}+{new}-{turn}", index) for turn in range(1, runs + 1)]
    with room(folder) as store:
        whole = measure(pipeline, store, f"{old}+{new}-1")
    if told[0]["digest"] != whole["digest"]:
        raise AssertionError(f"{what}: with what was known it is {told[0]['digest']}, from scratch {whole['digest']}")
    known_s, whole_s = median(one["seconds"] for one in told), whole["seconds"]
    print(f"  1 % more rows, {what}: {known_s:.2f} s, from scratch {whole_s:.2f} s", flush=True)
    yield Figure(f"incremental: {what}, 1 % more rows, share of the time", 100 * known_s / whole_s, "%", most=most)
    yield Figure(f"incremental: {what}, 1 % more rows", known_s, "s")
    yield Figure(f"incremental: {what}, from scratch", whole_s, "s")
