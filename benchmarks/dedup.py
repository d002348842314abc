"""Fuzzy and exact deduplication of 100,000 rows, from Parquet to Parquet: the docstrings of the installed Python files.

Word 5-gram shingles, true Jaccard >= 0.8; one process, as the job runs.
"""

from __future__ import annotations

import ast
import gc
import resource
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from anneal.curation.adapters.executors.threads import Threads
from anneal.curation.adapters.stored_rows import DatasetSink, StoredRows
from anneal.curation.adapters.vault import ScratchVault
from anneal.curation.domain.engine import NamedStep, Outcome, curate
from anneal.curation.domain.steps.base import Runnable
from anneal.curation.domain.steps.exact_duplicates import ExactDuplicates
from anneal.curation.domain.steps.fuzzy_duplicates import FuzzyDuplicates
from anneal.kit.datasets import DatasetReader, DatasetWriter
from anneal.kit.records import document, to_table
from anneal.kit.store import Store
from benchmarks.results import Figure, keep

ROWS = 100_000
THRESHOLD = 0.8
REPEATS = 3


def docstrings() -> Iterator[tuple[str, str]]:
    """File and docstring of every module, class and function installed beside this interpreter, in a fixed order."""
    root = Path(sysconfig.get_path("purelib"))
    for folder in (root, Path(sysconfig.get_path("stdlib"))):
        for file in sorted(folder.rglob("*.py")):
            if folder != root and "site-packages" in file.parts:
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    tree = ast.parse(file.read_bytes())
            except (SyntaxError, ValueError, RecursionError, OSError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    text = ast.get_docstring(node)
                    if text:
                        yield str(file.relative_to(folder)), text.encode("utf-8", "replace").decode()


def write_rows(store: Store) -> tuple[str, int, int]:
    """The rows as a documents dataset: digest, rows and bytes of text."""
    writer = DatasetWriter(store, "document")
    found, size = 0, 0
    texts = islice(docstrings(), ROWS)
    while chunk := list(islice(texts, 5_000)):
        writer.add(to_table("document", [document(text, uri=file) for file, text in chunk]))
        found += len(chunk)
        size += sum(len(text.encode()) for _, text in chunk)
        print(f"  {found:,} docstrings", end="\r", flush=True)
    return writer.finish(rows_in=found).digest, found, size


def measure(store: Store, digest: str, step: Runnable) -> tuple[float, float, Outcome]:
    """The fastest of some runs: seconds, seconds of processor time, and what it did; each ends with a manifest."""
    times = []
    for _ in range(REPEATS):
        gc.collect()
        start, start_cpu = time.perf_counter(), time.process_time()
        writer = DatasetWriter(store, "document")
        rows = StoredRows([DatasetReader(store, digest)])
        with tempfile.TemporaryDirectory() as scratch:
            vault = ScratchVault(Path(scratch))
            steps = [NamedStep("step", step)]
            outcome = curate(steps, rows, vault, Threads(), DatasetSink(writer), lambda _doing, _done, _total: None)
        writer.finish(rows_in=outcome.rows_in)
        times.append((time.perf_counter() - start, time.process_time() - start_cpu))
    return min(wall for wall, _ in times), min(cpu for _, cpu in times), outcome


def main() -> None:
    """Build the rows, measure, print and keep."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(str(Path(folder) / "store"), Path(folder) / "cache")
        digest, rows, size = write_rows(store)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        exact_s, exact_cpu_s, exact = measure(store, digest, ExactDuplicates())
        fuzzy_s, fuzzy_cpu_s, fuzzy = measure(store, digest, FuzzyDuplicates(threshold=THRESHOLD))
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    keep(
        "dedup",
        [
            Figure("fuzzy, end to end", rows / fuzzy_s, "rows/s"),
            Figure("fuzzy, end to end", size / fuzzy_s / 1e6, "MB/s"),
            Figure("fuzzy, time", fuzzy_s, "s"),
            Figure("fuzzy, processor time", fuzzy_cpu_s, "s"),
            Figure("fuzzy, removed", sum(fuzzy.removed.values()), "rows"),
            Figure("exact, end to end", rows / exact_s, "rows/s"),
            Figure("exact, end to end", size / exact_s / 1e6, "MB/s"),
            Figure("exact, processor time", exact_cpu_s, "s"),
            Figure("exact, removed", sum(exact.removed.values()), "rows"),
            Figure("peak memory above the start", (after - before) / 1024, "MiB"),
        ],
        {"rows": rows, "text_mb": round(size / 1e6, 1), "threshold": THRESHOLD, "ngram": 5, "best_of": REPEATS},
    )


if __name__ == "__main__":
    main()
