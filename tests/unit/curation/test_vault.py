"""Parts: those of an index are fetched and verified once, and many of them need few open files."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from anneal.curation.adapters.packs import LARGE_BYTES, Index
from anneal.curation.adapters.part_files import SMALL_BYTES
from anneal.curation.adapters.vault import ScratchVault
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
    before.put({"a": part(rows)})
    index = Index.read(store, before.publish([["a"]], {"note": "a"}, store))
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
    before.put({"a": part(10)})
    index = Index.read(store, before.publish([["a"]], {}, store))
    (blob,) = (tmp_path / "store").rglob(index.packs[0].digest.removeprefix("sha256:"))
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    with pytest.raises(BlobDamaged):
        ScratchVault(tmp_path / "after", store, index).open("a")


def test_what_this_run_found_counts_before_what_was_known(store: Store, tmp_path: Path) -> None:
    before = ScratchVault(tmp_path / "before")
    before.put({"note": part(10)})
    index = Index.read(store, before.publish([["note"]], {}, store))
    vault = ScratchVault(tmp_path / "after", store, index)
    assert vault.open("note").equals(part(10))
    vault.put({"note": part(20)})
    again = Index.read(store, vault.publish([["note"]], {}, store))
    assert ScratchVault(tmp_path / "third", store, again).open("note").equals(part(20))


@pytest.mark.parametrize("limit", ["HELD_PARTS", "HELD_FILES"])
@pytest.mark.parametrize("rows", [10, SMALL_BYTES])
def test_many_parts_need_few_open_files(tmp_path: Path, rows: int, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"anneal.curation.adapters.vault.{limit}", 40)
    vault = ScratchVault(tmp_path)
    for n in range(100):
        vault.put({str(n): part(rows, n)})
    files = len(os.listdir("/proc/self/fd"))
    for n in range(100):
        assert vault.open(str(n)).column("n")[0].as_py() == n
    assert len(os.listdir("/proc/self/fd")) - files <= (40 if rows == SMALL_BYTES else 0)


@pytest.mark.parametrize("rows", [10, SMALL_BYTES])
def test_parts_that_were_put_together_are_one_file(tmp_path: Path, rows: int) -> None:
    vault = ScratchVault(tmp_path)
    parts = {str(n): part(rows + n, n) for n in range(5)}
    parts["words"] = pa.RecordBatch.from_pydict({"w": pa.array(["a", None, "b"] * rows).dictionary_encode()})
    files = len(os.listdir("/proc/self/fd"))
    vault.put(parts)
    assert len(list(tmp_path.iterdir())) == 1
    for one in (vault, ScratchVault(tmp_path)):
        assert all(one.open(key).equals(each) for key, each in parts.items())
    assert len(os.listdir("/proc/self/fd")) - files <= (2 if rows == SMALL_BYTES else 0)


def test_many_packs_need_few_open_files(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anneal.curation.adapters.packs.MOST_MAPPED", 3)
    monkeypatch.setattr("anneal.curation.adapters.vault.HELD_PARTS", 0)
    before = ScratchVault(tmp_path / "before")
    keys = [str(n) for n in range(300)]
    before.put({key: part(5, n) for n, key in enumerate(keys)})
    index = Index.read(store, before.publish([keys], {}, store))
    vault = ScratchVault(tmp_path / "after", store, index)
    files = len(os.listdir("/proc/self/fd"))
    vault.ready(keys)
    assert all(vault.open(key).equals(part(5, n)) for n, key in enumerate(keys))
    assert len(index.packs) > 6
    assert len(os.listdir("/proc/self/fd")) - files <= 3


@pytest.mark.parametrize(("large", "few", "many"), [(LARGE_BYTES, 8, 24), (2 << 10, 40, 80)])
def test_packs_do_not_depend_on_what_was_known_before(
    store: Store, tmp_path: Path, large: int, few: int, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anneal.curation.adapters.packs.LARGE_BYTES", large)
    keys = [str(n) for n in range(500)]
    alone = ScratchVault(tmp_path / "alone")
    for n, key in enumerate(keys):
        alone.put({key: part(n % 7, n)})
    whole = alone.publish([keys], {}, store)
    before = ScratchVault(tmp_path / "before")
    for n, key in enumerate(keys[:400]):
        before.put({key: part(n % 7, n)})
    old = Index.read(store, before.publish([keys[:400]], {}, store))
    after = ScratchVault(tmp_path / "after", store, old)
    for n, key in enumerate(keys[400:], 400):
        after.put({key: part(n % 7, n)})
    assert after.publish([keys], {}, store) == whole
    # All packs but the last are those that there were.
    new = Index.read(store, whole)
    assert few < len(old.packs) < many
    assert [pack.digest for pack in new.packs[: len(old.packs) - 1]] == [pack.digest for pack in old.packs[:-1]]
    last = ScratchVault(tmp_path / "last", store, new)
    last.ready(keys)
    for n, key in enumerate(keys):
        assert last.open(key).equals(part(n % 7, n))


def test_a_part_that_is_in_two_runs_is_kept_once(store: Store, tmp_path: Path) -> None:
    vault = ScratchVault(tmp_path)
    for key in "ab":
        vault.put({key: part(3)})
    index = Index.read(store, vault.publish([["a", "b", "a"], ["b"]], {}, store))
    assert [list(pack.sizes) for pack in index.packs] == [["a", "b"]]
