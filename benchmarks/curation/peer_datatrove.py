"""datatrove, timed; runs in an environment of its own: `python peer_datatrove.py KIND FILE FOLDER [ITEMS]`.

Its local executor runs tasks as processes: two for deduplication; rules and n-grams are told per core, so one.
"""

from __future__ import annotations

import ast
import json
import re
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter, NGramsDecontIndexer
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.filters import GopherQualityFilter, LambdaFilter, RegexFilter
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter

KEYWORDS = ("deprecated", "lorem ipsum", "todo", "fixme", "as an ai language model", "click here", "subscribe now")
PLACEHOLDER = re.compile(
    r"\{\{\s*[A-Za-z_][\w.]*\s*(?:\|[^{}\n]*)?\}\}|\{%-?\s*[a-z]+\b[^%\n]*%\}|[\[<](?:INSERT|YOUR)[ _]"
)
FENCED = re.compile(r"^```(?:python3?|py)\b[^\n]*\n(.*?)^```", re.M | re.S | re.I)


def execute(steps: list[Any], folder: Path, name: str, tasks: int = 1) -> None:
    """Run one pipeline."""
    logs = str(folder / "logs" / name)
    LocalPipelineExecutor(pipeline=steps, tasks=tasks, workers=tasks, logging_dir=logs, skip_completed=False).run()


def reader(file: str) -> Any:
    """The rows."""
    path = Path(file)
    return ParquetReader(str(path.parent), glob_pattern=path.name, id_key="n", text_key="text")


def fuzzy(file: str, folder: Path) -> None:
    """Its four stages of deduplication."""
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    parts = folder / "split"
    parts.mkdir()
    table = pq.read_table(file)
    half = table.num_rows // 2
    for number, part in enumerate((table.slice(0, half), table.slice(half))):  # one file for each task
        pq.write_table(part, parts / f"{number}.parquet", compression="zstd")
    rows = ParquetReader(str(parts), id_key="n", text_key="text")
    at = {name: str(folder / name) for name in ("signatures", "buckets", "ids", "output")}
    execute([rows, MinhashDedupSignature(at["signatures"], config=config)], folder, "1", 2)
    execute([MinhashDedupBuckets(at["signatures"], at["buckets"], config=config)], folder, "2", config.num_buckets)
    execute([MinhashDedupCluster(at["buckets"], at["ids"], config=config)], folder, "3")
    execute([rows, MinhashDedupFilter(at["ids"]), ParquetWriter(at["output"], compression="zstd")], folder, "4", 2)


def is_well_formed(doc: Any) -> bool:
    """What Anneal's `format` looks for in an answer."""
    if not doc.text.strip() or PLACEHOLDER.search(doc.text):
        return False
    for code in FENCED.findall(doc.text):
        try:
            ast.parse(code)
        except (SyntaxError, ValueError):
            return False
    return True


def rules(file: str, folder: Path) -> None:
    """Words within limits, no keyword, well formed."""
    averages = ("min_avg_word_length", "max_avg_word_length")
    ratios = (
        "max_symbol_word_ratio",
        "max_bullet_lines_ratio",
        "max_ellipsis_lines_ratio",
        "max_non_alpha_words_ratio",
    )
    nothing = dict.fromkeys((*averages, *ratios, "min_stop_words"))
    keywords = "|".join(map(re.escape, KEYWORDS))
    steps = [
        reader(file),
        GopherQualityFilter(min_doc_words=3, max_doc_words=2000, **nothing),
        RegexFilter(rf"(?i)(?<!\w)(?:{keywords})(?!\w)"),
        LambdaFilter(is_well_formed),
        ParquetWriter(str(folder / "output"), compression="zstd"),
    ]
    execute(steps, folder, "rules")


def index_items(items: str, folder: Path) -> None:
    """What its indexer writes for items; its own run wants lighteval's tasks besides."""
    (folder / "index").mkdir()
    config = NGramsDecontConfig(n_grams=13, find_overlap_ngrams=False)
    alike: Any = NGramsDecontFilter(str(folder / "index"), config)  # has all that hashing asks of an indexer
    hashes: set[int] = set()
    for text in pq.read_table(items).column("text").to_pylist():
        hashes.update(NGramsDecontIndexer.compute_hashes(alike, text))
    np.array(list(hashes), dtype=config.hash_config.np_descr).tofile(folder / "index" / "items.index.hashes")


def ngrams(file: str, folder: Path) -> None:
    """The rows that share no 13-gram with an item."""
    config = NGramsDecontConfig(n_grams=13, find_overlap_ngrams=False)
    steps = [
        reader(file),
        NGramsDecontFilter(str(folder / "index"), config),
        ParquetWriter(str(folder / "output"), compression="zstd"),
    ]
    execute(steps, folder, "ngrams")


def main() -> None:
    """Do it and say how it went."""
    kind, file, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3]) / "datatrove"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if kind == "ngrams":
        index_items(sys.argv[4], folder)
    start = time.perf_counter()
    {"fuzzy": fuzzy, "rules": rules, "ngrams": ngrams}[kind](file, folder)
    seconds = time.perf_counter() - start
    written = [pq.read_table(part) for part in sorted((folder / "output").glob("*.parquet"))]
    kept = [int(n) for table in written for n in table.column("id").to_pylist()]
    if kind == "fuzzy":
        np.save(folder.parent / "kept-datatrove.npy", np.array(kept))
    rss = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("\n" + json.dumps({"seconds": seconds, "rss_mib": rss / 1024, "kept": len(kept)}))


if __name__ == "__main__":
    main()
