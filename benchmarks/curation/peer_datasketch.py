"""datasketch, in memory on one core, timed: `python -m benchmarks.curation.peer_datasketch FILE FOLDER` prints JSON."""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from datasketch import MinHash, MinHashLSH

WORD = re.compile(r"\w+")


def shingles(text: str) -> list[bytes]:
    """The word 5-grams of a text."""
    words = WORD.findall(text.lower())
    runs = [words[n : n + 5] for n in range(max(len(words) - 4, 1))]
    return list({" ".join(run).encode() for run in runs if run})


def main() -> None:
    """Do it and say how it went."""
    file, folder = sys.argv[1], Path(sys.argv[2])
    start = time.perf_counter()
    table = pq.read_table(file)
    texts = table.column("text").to_pylist()
    index = MinHashLSH(threshold=0.8, num_perm=128)
    parent = list(range(len(texts)))

    def find(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for row, text in enumerate(texts):
        signature = MinHash(num_perm=128)
        signature.update_batch(shingles(text))
        for other in index.query(signature):
            left, right = sorted((find(other), find(row)))
            parent[right] = left
        index.insert(row, signature, check_duplication=False)
    kept = [row for row in range(len(texts)) if find(row) == row]
    pq.write_table(table.take(kept), folder / "datasketch.parquet", compression="zstd")
    seconds = time.perf_counter() - start
    np.save(folder / "kept-datasketch.npy", np.array(kept))
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "rss_mib": rss / 1024, "kept": len(kept)}))


if __name__ == "__main__":
    main()
