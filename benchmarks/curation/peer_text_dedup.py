"""text-dedup, timed; runs in an environment of its own: `python peer_text_dedup.py FILE FOLDER` prints it as JSON."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from pathlib import Path

import datasets
import numpy as np
from text_dedup import minhash


def main() -> None:
    """Do it and say how it went."""
    file, folder = sys.argv[1], Path(sys.argv[2])
    shutil.rmtree(folder / "text-dedup", ignore_errors=True)
    datasets.disable_progress_bars()
    output = folder / "text-dedup" / "out"
    arguments = ["--path", "parquet", "--data_files", file, "--split", "train", "--column", "text"]
    arguments += ["--cache_dir", str(folder / "text-dedup" / "cache"), "--output", str(output)]
    # Its default leaves out texts of fewer than five words, for all of which one stays.
    arguments += ["--ngram", "5", "--threshold", "0.8", "--num_perm", "128", "--min_length", "1"]
    arguments += ["--batch_size", "10000", "--hash_func", "xxh3"]
    start = time.perf_counter()
    minhash.main(arguments, standalone_mode=False)
    seconds = time.perf_counter() - start
    kept = [int(n) for n in datasets.load_from_disk(str(output))["n"]]
    np.save(folder / "kept-text-dedup.npy", np.array(kept))
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print("\n" + json.dumps({"seconds": seconds, "rss_mib": rss / 1024, "kept": len(kept)}))


if __name__ == "__main__":
    main()
