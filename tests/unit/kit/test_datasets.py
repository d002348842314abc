"""Dataset versions: what is written is read, counts balance, digests do not depend on batching."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anneal.kit.datasets import DatasetReader, DatasetWriter
from anneal.kit.manifests import Manifest, ManifestUnbalanced, NotAManifest
from anneal.kit.records import conversation, document, quarantine_table, quarantined, removed_schema, to_table
from anneal.kit.shards import row_bytes
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


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=30),
    st.lists(st.integers(1, 9), min_size=1, max_size=30),
    st.integers(1, 3_000),
)
def test_a_file_ends_where_its_rows_say_however_they_come(
    store: Store, lengths: list[int], batches: list[int], shard_bytes: int
) -> None:
    table = to_table("document", [document("x" * n, uri=f"{i}") for i, n in enumerate(lengths)])
    sizes = row_bytes(table).to_pylist()

    def written(cuts: list[int]) -> Manifest:
        writer = DatasetWriter(store, "document", shard_rows=7, shard_bytes=shard_bytes)
        start = 0
        for rows_here in [*cuts, len(lengths)]:
            writer.add(table.slice(start, rows_here))
            start = min(start + rows_here, len(lengths))
        return writer.finish(rows_in=len(lengths))

    whole = written([])
    assert written(batches).digest == whole.digest
    assert DatasetReader(store, whole.digest).table().equals(table)
    start = 0
    for shard in whole.shards:
        held = sizes[start : start + shard.rows]
        start += shard.rows
        assert sum(held[:-1]) < shard_bytes
        assert shard.rows == 7 or sum(held) >= shard_bytes or shard is whole.shards[-1]


def test_the_size_of_a_row_by_hand() -> None:
    table = to_table("document", [document("äb", uri="u"), document("", uri="u", source="s")])
    fixed = 9 * 4 + 64 + len("u") + len("text/plain") + len("{}") + len("u")
    assert row_bytes(table).to_pylist() == [fixed + 3, fixed]
    kinds = pa.table(
        {
            "list": pa.array([["a", "bc"], None, []], pa.list_(pa.string())),
            "map": pa.array([[("k", 1.0)], [], None], pa.map_(pa.string(), pa.float64())),
            "pair": pa.array([{"x": 1, "y": "z"}, {"x": None, "y": None}, None], pa.struct({"x": "i8", "y": "str"})),
        }
    )
    assert row_bytes(kinds).to_pylist() == [4 + 11 + 4 + 13 + 13, 4 + 4 + 12, 4 + 4 + 12]
    assert row_bytes(kinds.slice(1)).to_pylist() == [20, 20]


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
