"""Dataset versions: what is written is read, counts balance, digests do not depend on batching."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from anneal.kit.datasets import DatasetReader, DatasetWriter, Manifest, ManifestUnbalanced, NotAManifest
from anneal.kit.records import conversation, quarantine_table, quarantined, removed_schema, to_table
from anneal.kit.store import BlobDamaged, BlobMissing, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), tmp_path / "cache")


def rows(n: int) -> pa.Table:
    turns = ({"role": "user", "content": "q"}, {"role": "assistant", "content": "a"})
    made = (
        conversation([turns[0], {**turns[1], "content": f"a{i}"}], source=f"s{i % 3}", scores={"x": 1.0})
        for i in range(n)
    )
    return to_table("conversation", made)


def write(store: Store, n: int, batch: int) -> Manifest:
    writer = DatasetWriter(store, "conversation", shard_rows=10)
    table = rows(n)
    for start in range(0, n, batch):
        writer.add(table.slice(start, batch))
    return writer.finish(rows_in=n)


def test_digest_does_not_depend_on_batch_size(store: Store) -> None:
    digests = {write(store, 37, batch).digest for batch in (1, 7, 10, 37)}
    assert len(digests) == 1
    reader = DatasetReader(store, digests.pop())
    assert reader.table().equals(rows(37))
    assert [shard.rows for shard in reader.manifest.shards] == [10, 10, 10, 7]


def test_parts_and_splits_are_read_apart(store: Store) -> None:
    writer = DatasetWriter(store, "conversation")
    table = rows(6)
    writer.add(table.slice(0, 3), split="train")
    writer.add(table.slice(3, 1), split="test")
    gone = table.slice(4, 1)
    for name, value in (("step", "length"), ("reason", "too_short"), ("numbers", "{}"), ("duplicate_of", None)):
        gone = gone.append_column(f"removed_{name}", pa.array([value], pa.string()))
    writer.add(gone, part="removed")
    writer.add(
        quarantine_table([quarantined("f", byte_offset=9, cause="c", reason="r", raw=b"\xff")]), part="quarantined"
    )
    manifest = writer.finish(rows_in=6)
    reader = DatasetReader(store, manifest.digest)
    assert manifest.splits == {"test": 1, "train": 3}
    assert manifest.removed == {("length", "too_short"): 1}
    assert reader.table("test").num_rows == 1
    assert reader.table(part="removed").schema == removed_schema("conversation")
    assert reader.table(part="quarantined").to_pylist()[0]["raw"] == "\\xff"
    assert reader.table("nowhere").num_rows == 0


def test_a_lost_row_is_refused(store: Store) -> None:
    writer = DatasetWriter(store, "conversation")
    writer.add(rows(3))
    with pytest.raises(ManifestUnbalanced, match="4 rows came in, but 3 were kept"):
        writer.finish(rows_in=4)


def test_other_blobs_are_not_manifests(store: Store) -> None:
    for data in (b"[]", b"{}", b"\xff"):
        with pytest.raises(NotAManifest):
            DatasetReader(store, store.put_bytes(data))
    with pytest.raises(BlobMissing):
        DatasetReader(store, "sha256:" + "0" * 64)


def test_trees_come_back_whole_or_not_at_all(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"a")
    (folder / "sub" / "b.bin").write_bytes(b"b" * 100)
    digest = store.put_tree(folder)
    assert store.put_tree(folder) == digest
    copy = store.materialize(digest)
    assert (copy / "sub" / "b.bin").read_bytes() == b"b" * 100
    assert store.materialize(digest) == copy
    blob = next(
        path for path in (tmp_path / "store" / "blobs").rglob("*") if path.is_file() and path.read_bytes() == b"a"
    )
    blob.write_bytes(b"z")
    other = Store(str(tmp_path / "store"), tmp_path / "other-cache")
    with pytest.raises(BlobDamaged):
        other.materialize(digest)
    assert not any(path.name == digest[7:] for path in (tmp_path / "other-cache").rglob("*"))
