"""Parts: those of an index are fetched and verified once, and many of them need few open files."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from anneal.curation.adapters.vault import SMALL_BYTES, Index, ScratchVault
from anneal.kit.store import BlobDamaged, Store


def part(rows: int, first: int = 0) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"n": np.arange(first, first + rows)})


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store") if request.param == "folder" else "memory:///", tmp_path / "cache")


@pytest.mark.parametrize("rows", [10, SMALL_BYTES])
def test_a_part_of_the_index_is_verified_once(
    store: Store, tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ScratchVault(tmp_path / "before")
    before.put("a", part(rows))
    index = Index.read(store, before.publish(["a"], {"note": "a"}, store))
    asked: Counter[bool] = Counter()
    fetch = store.map_bytes

    def counted(digest: str, *, verified: bool = False) -> object:
        asked[verified] += 1
        return fetch(digest, verified=verified)

    monkeypatch.setattr(store, "map_bytes", counted)
    monkeypatch.setattr("anneal.curation.adapters.vault.HELD_PARTS", 0)
    vault = ScratchVault(tmp_path / "after", store, index)
    vault.ready(["a", "unknown"])
    assert [vault.open("a").equals(part(rows)) for _ in range(3)] == [True] * 3
    assert asked[False] == 1
    # A folder's file is mapped again; from any other store it is fetched no more.
    assert asked[True] in (0, 3)
    assert vault.note("note") == "a"


def test_a_damaged_part_is_not_used(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"), tmp_path / "cache")
    before = ScratchVault(tmp_path / "before")
    before.put("a", part(10))
    index = Index.read(store, before.publish(["a"], {}, store))
    (blob,) = (tmp_path / "store").rglob(index.parts["a"].removeprefix("sha256:"))
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    with pytest.raises(BlobDamaged):
        ScratchVault(tmp_path / "after", store, index).open("a")


def test_what_this_run_found_counts_before_what_was_known(store: Store, tmp_path: Path) -> None:
    before = ScratchVault(tmp_path / "before")
    before.put("note", part(10))
    index = Index.read(store, before.publish(["note"], {}, store))
    vault = ScratchVault(tmp_path / "after", store, index)
    assert vault.open("note").equals(part(10))
    vault.put("note", part(20))
    again = Index.read(store, vault.publish(["note"], {}, store))
    assert ScratchVault(tmp_path / "third", store, again).open("note").equals(part(20))


@pytest.mark.parametrize("rows", [10, SMALL_BYTES])
def test_many_parts_need_few_open_files(tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anneal.curation.adapters.vault.HELD_PARTS", 40)
    vault = ScratchVault(tmp_path)
    for n in range(100):
        vault.put(str(n), part(rows, n))
    files = len(os.listdir("/proc/self/fd"))
    for n in range(100):
        assert vault.open(str(n)).column("n")[0].as_py() == n
    assert len(os.listdir("/proc/self/fd")) - files <= (40 if rows == SMALL_BYTES else 0)
