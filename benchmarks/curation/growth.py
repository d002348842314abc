"""What happens when there are many times the rows, and when there are a few more than last time."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from benchmarks.curation.ours import run, steps_of
from benchmarks.curation.work import Made, docstrings, grown, prepared, store_of
from benchmarks.results import Figure


def figures(folder: Path, made: Made, times: int, measure: Callable[[str], dict[str, float]]) -> list[Figure]:
    """Time and memory of many times the rows beside those of the rows, and the time that 1 % more rows cost.

    Args:
        folder: where rows are kept.
        made: the rows.
        times: how many times as many.
        measure: runs fuzzy deduplication of the rows of a name.
    """
    name = f"work-{times}"
    grown(folder, name, made, times)
    small, large = measure("work"), measure(name)
    print(f"  {times} times the rows: {small['seconds']:.2f} s, then {large['seconds']:.2f} s", flush=True)
    found = [
        Figure(f"growth: time of {times} times the rows", large["seconds"] / small["seconds"], "x", most=1.1 * times),
        Figure("growth: memory of the rows", small["rss_mib"], "MiB"),
        Figure(f"growth: memory of {times} times the rows", large["rss_mib"], "MiB"),
    ]
    return [*found, *_more(folder, made, grown(folder, name, made, times))]


def _more(folder: Path, made: Made, many: Made) -> Iterator[Figure]:
    """One in a hundred rows more than last time, with what is known of the others and without."""
    few = many.rows // 100
    more = ((f"more/{file}", f"{text} once more") for file, text in islice(docstrings(), few))
    new = prepared(folder, "work-more", more)
    store, steps = store_of(folder), steps_of("fuzzy", folder)
    room = Path(tempfile.mkdtemp(dir=folder))
    try:
        *_, index = run(steps, store, [many.digest], room / "before", output=store, keeps=True)
        both = [many.digest, new.digest]
        known_s, _, _, known, _ = run(steps, store, both, room / "known", output=store, index=index)
        scratch_s, _, _, scratch, _ = run(steps, store, both, room / "scratch")
    finally:
        shutil.rmtree(room)
    if known != scratch:
        raise AssertionError(f"with what was known the result is {known}, from scratch it is {scratch}")
    yield Figure("incremental: 1 % more rows, share of the time from scratch", 100 * known_s / scratch_s, "%")
    yield Figure("incremental: 1 % more rows", known_s, "s")
    yield Figure("incremental: from scratch", scratch_s, "s")
