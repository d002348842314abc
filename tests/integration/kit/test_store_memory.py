"""A file goes into the store and out of it in the memory of a few parts, however large it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.architecture.repository import ROOT

SIZE_MIB = 256
MOST_MIB = 96
PROGRAM = """
import json, sys
from pathlib import Path
from anneal.kit.store import Store
from benchmarks.curation.memory import peak_mib

folder = Path(sys.argv[1])
store = Store(str(folder / "store"), folder / "cache")
before = peak_mib()
digest = store.put_file(folder / "large")
put = peak_mib()
store.download(digest, folder / "again")
got = peak_mib()
print(json.dumps([digest, put - before, got - put]))
"""


def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.write(os.urandom(1 << 20))
        file.truncate(SIZE_MIB << 20)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=ROOT)
    digest, put_mib, got_mib = json.loads(ran.stdout)
    assert (tmp_path / "store" / "blobs" / digest[7:9] / digest[7:]).stat().st_size == SIZE_MIB << 20
    assert (tmp_path / "again").stat().st_size == SIZE_MIB << 20
    assert put_mib < MOST_MIB
    assert got_mib < MOST_MIB
    assert not list((tmp_path / "store").rglob("*#*")), "nothing half-written stays"
