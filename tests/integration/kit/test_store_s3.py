"""The object store over the S3 protocol behaves as it does in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import obstore
import pytest

from anneal.kit.datasets import DatasetReader, DatasetWriter
from anneal.kit.records import document, to_table
from anneal.kit.store import BlobMissing, Store
from tests.fixtures.s3 import Bucket

Open = Callable[[str], Store]


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same store again, with a cache of its own each time."""
    if request.param == "folder":
        return lambda cache: Store(str(tmp_path / "store"), tmp_path / cache)
    bucket: Bucket = request.getfixturevalue("s3_bucket")
    return lambda cache: Store(f"{bucket.url}/prefix", tmp_path / cache, bucket.options)


def test_bytes_and_files_come_back_under_their_digest(open_store: Open, tmp_path: Path) -> None:
    store = open_store("a")
    digest = store.put_bytes(b"hello")
    assert store.put_bytes(b"hello") == digest
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 50_000)
    stored = store.put_file(big)
    assert store.put_file(big) == stored
    other = open_store("b")
    assert other.get_bytes(digest) == b"hello"
    assert b"".join(other.stream(stored)) == big.read_bytes()
    other.download(stored, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == big.read_bytes()
    missing = "sha256:" + "0" * 64
    assert other.exists(digest)
    assert not other.exists(missing)
    with pytest.raises(BlobMissing):
        other.get_bytes(missing)


def test_datasets_trees_and_records_come_back(open_store: Open, tmp_path: Path) -> None:
    store = open_store("a")
    writer = DatasetWriter(store, "document")
    writer.add(to_table("document", [document(f"text {i}", uri=f"u{i}") for i in range(5)]))
    digest = writer.finish(rows_in=5).digest
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "f").write_bytes(b"f")
    tree = store.put_tree(tmp_path / "tree")
    store.put_record("datasets/d/1", {"digest": digest})
    store.put_record("datasets/d/1", {"digest": tree})
    other = open_store("b")
    assert DatasetReader(other, digest).table().num_rows == 5
    assert (other.materialize(tree) / "sub" / "f").read_bytes() == b"f"
    assert dict(other.records("datasets")) == {"datasets/d/1": {"digest": tree}}
    assert other.record("datasets/d/1") == {"digest": tree}
    other.delete_record("datasets/d/1")
    other.delete_record("datasets/d/1")
    assert store.record("datasets/d/1") is None
    assert not dict(store.records("datasets"))


def test_a_damaged_file_is_deleted_and_stored_again(open_store: Open, tmp_path: Path) -> None:
    store = open_store("a")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "f").write_bytes(b"right")
    tree = store.put_tree(tmp_path / "tree")
    digest = store.tree(tree)["f"]["digest"]
    assert store.is_whole_tree(tree)
    obstore.put(store._backend, store._key(digest), b"wrong")
    assert not store.is_whole_tree(tree)
    assert not store.exists(digest)
    assert store.put_tree(tmp_path / "tree") == tree
    extended = store.extend_tree(tree, {"sub/g": b"more"})
    store.flush([tree, digest])
    assert open_store("b").is_whole_tree(extended)
    (tmp_path / "tree" / "sub").mkdir()
    (tmp_path / "tree" / "sub" / "g").write_bytes(b"more")
    assert store.put_tree(tmp_path / "tree") == extended
