"""A file goes into the store and out of it in the memory of a few parts, however large it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SIZE_MIB = 256
MOST_MIB = 96
PROGRAM = """
import json, resource, sys
from pathlib import Path
from anneal.kit.store import Store

folder = Path(sys.argv[1])
store = Store(str(folder / "store"), folder / "cache")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
digest = store.put_file(folder / "large")
put = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store.download(digest, folder / "again")
got = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([digest, put - before, got - put]))
"""


def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.write(os.urandom(1 << 20))
        file.truncate(SIZE_MIB << 20)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    digest, put_kib, got_kib = json.loads(ran.stdout)
    assert (tmp_path / "store" / "blobs" / digest[7:9] / digest[7:]).stat().st_size == SIZE_MIB << 20
    assert (tmp_path / "again").stat().st_size == SIZE_MIB << 20
    assert put_kib >> 10 < MOST_MIB
    assert got_kib >> 10 < MOST_MIB
    assert not list((tmp_path / "store").rglob("*#*")), "nothing half-written stays"
