"""One piece of work by Anneal, timed: `python -m benchmarks.curation.ours KIND FOLDER NAME` prints it as JSON.

What is imported and compiled before any row is seen is done before the clock starts, as for the peers.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from anneal.curation.adapters.executors.threads import Threads
from anneal.curation.adapters.memory import use_malloc
from anneal.curation.adapters.packs import Index
from anneal.curation.adapters.stored_rows import DatasetSink, StoredRows
from anneal.curation.adapters.vault import ScratchVault
from anneal.curation.domain.engine import NamedStep, Outcome, curate
from anneal.curation.domain.steps.base import Runnable
from anneal.curation.domain.steps.decontaminate import Decontaminate, Decontamination
from anneal.curation.domain.steps.exact_duplicates import ExactDuplicates
from anneal.curation.domain.steps.format import Format
from anneal.curation.domain.steps.fuzzy_duplicates import FuzzyDuplicates
from anneal.curation.domain.steps.keywords import Keywords
from anneal.curation.domain.steps.length import Length
from anneal.kit.datasets import DatasetReader, DatasetWriter
from anneal.kit.records import document, to_table
from anneal.kit.store import Store
from benchmarks.curation.memory import peak_mib
from benchmarks.curation.work import KEYWORDS, MAX_WORDS, MIN_WORDS, NGRAM, THRESHOLD, Made, room, store_of


def steps_of(kind: str, folder: Path) -> list[NamedStep]:
    """The pipeline of a kind of work."""
    if kind == "fuzzy":
        return [NamedStep(kind, FuzzyDuplicates(threshold=THRESHOLD, ngram=NGRAM), kind)]
    if kind == "exact":
        return [NamedStep(kind, ExactDuplicates(), kind)]
    if kind == "rules":
        length = Length(min_answer_words=MIN_WORDS, max_answer_words=MAX_WORDS)
        steps: dict[str, Runnable] = {"length": length, "keywords": Keywords(exclude=KEYWORDS), "format": Format()}
        return [NamedStep(name, step, name) for name, step in steps.items()]
    step = Decontaminate(benchmarks=("bench",), methods=("ngram",), max_item_share=1.0)
    index = step.index()
    (items,) = folder.glob("items-*.parquet")
    texts = pq.read_table(items).column("text").to_pylist()
    rows = [document(text, uri=str(n)) for n, text in enumerate(texts)]
    index.add("bench", to_table("document", rows).to_batches(), step.methods)
    return [NamedStep(kind, Decontamination(step=step, index=index), kind)]


def run(
    steps: Sequence[NamedStep],
    store: Store,
    digests: Sequence[str],
    scratch: Path,
    *,
    threads: int = 0,
    output: Store | None = None,
    index: str = "",
    keeps: bool = False,
) -> tuple[float, float, Outcome, str, str]:
    """Curate from Parquet to Parquet: seconds, seconds of processor time, what happened, and the digests made.

    Args:
        steps: the pipeline.
        store: where rows are.
        digests: of the datasets to read.
        scratch: an empty folder.
        threads: 0 takes one for each core.
        output: where rows go; None for a store of its own, because one that has the bytes does not write them again.
        index: digest of what is known of the rows, in the output.
        keeps: whether to keep what is known in the output.
    """
    use_malloc()
    made = output or Store(str(scratch / "store"), scratch / "cache")
    start, start_cpu = time.perf_counter(), time.process_time()
    readers = [DatasetReader(store, digest) for digest in digests]
    known = Index.read(made, index) if index else None
    vault = ScratchVault(scratch / "parts", made, known)
    writer = DatasetWriter(made, readers[0].manifest.kind)
    outcome = curate(steps, StoredRows(readers), vault, Threads(threads), DatasetSink(writer), lambda *_: None)
    kept = vault.publish(outcome.parts, outcome.notes, made) if keeps else ""
    manifest = writer.finish(rows_in=outcome.rows_in)
    return time.perf_counter() - start, time.process_time() - start_cpu, outcome, manifest.digest, kept


def kept_rows(store: Store, digest: str, made: Made, output: Store) -> list[int]:
    """Numbers, in the file of rows, of the rows that a version in the output holds."""
    number: dict[str, list[int]] = {}
    source = DatasetReader(store, made.digest).table(columns=["id", "uri"])
    for n, key in enumerate(zip(source.column("id").to_pylist(), source.column("uri").to_pylist(), strict=True)):
        number.setdefault(str(key), []).append(n)
    left = DatasetReader(output, digest).table(columns=["id", "uri"])
    rows = zip(left.column("id").to_pylist(), left.column("uri").to_pylist(), strict=True)
    return [number[str(key)].pop() for key in rows]


def main() -> None:
    """Do it and say how it went."""
    kind, folder, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    threads = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    made = Made(**json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
    store, steps = store_of(folder), steps_of(kind, folder)
    digest = made.asked if kind == "rules" else made.digest
    reader = DatasetReader(store, digest)
    few = next(reader.batches(batch_rows=64))
    warm = DatasetWriter(store, reader.manifest.kind)
    warm.add(pa.Table.from_batches([few]))
    with room(folder) as scratch:
        run(steps, store, [warm.finish(rows_in=few.num_rows).digest], scratch / "warm", threads=1)
        before = peak_mib()
        output = Store(str(scratch / "output"), scratch / "cache")
        seconds, cpu_s, outcome, result, _ = run(
            steps, store, [digest], scratch / "work", threads=threads, output=output
        )
        after = peak_mib()
        if kind == "fuzzy" and name == "work":
            np.save(folder / "kept-ours.npy", np.array(kept_rows(store, result, made, output)))
    told = {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "rss_mib": after,
        "rss_before_mib": before,
        "removed": sum(outcome.removed.values()),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
