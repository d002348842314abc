"""Dataset versions: zstd Parquet shards, written and read, and a manifest that names them all by digest."""

from __future__ import annotations

import json
import mmap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from anneal.kit.digests import canonical_json
from anneal.kit.manifests import PARTS, Manifest, NotAManifest, Part, Shard
from anneal.kit.records import MESSAGE_COLUMNS, QUARANTINE, SCHEMAS, RecordKind, removed_schema, up_to_date
from anneal.kit.shards import Cutter
from anneal.kit.store import Store

SHARD_ROWS = 50_000
SHARD_BYTES = 64 << 20
_DIFFERENT_IN_MESSAGES = ("content", "reasoning", "tool_calls.list.element.arguments")
_DIFFERENT = {
    *("id", "text", "raw"),
    *(f"{column}.list.element.{field}" for column in MESSAGE_COLUMNS for field in _DIFFERENT_IN_MESSAGES),
}
"""Columns, by their paths in Parquet, whose values seldom repeat: a dictionary of them costs time and saves nothing."""


def _schema(kind: RecordKind, part: Part) -> pa.Schema:
    return {"rows": SCHEMAS[kind], "removed": removed_schema(kind), "quarantined": QUARANTINE}[part]


def _leaves(fields: Iterable[pa.Field], before: str = "") -> Iterator[str]:
    """The paths in Parquet of columns and of what is in them."""
    for field in fields:
        path = before + field.name
        if pa.types.is_list(field.type):
            yield from _leaves([field.type.value_field.with_name("element")], f"{path}.list.")
        elif pa.types.is_map(field.type):
            yield from _leaves([field.type.key_field, field.type.item_field], f"{path}.key_value.")
        elif pa.types.is_struct(field.type):
            yield from _leaves(field.type, f"{path}.")
        else:
            yield path


class DatasetWriter:
    """Writes one dataset version. Rows keep the order in which they are added, within their part and split."""

    def __init__(
        self, store: Store, kind: RecordKind, *, shard_rows: int = SHARD_ROWS, shard_bytes: int = SHARD_BYTES
    ) -> None:
        """Begin a version.

        Args:
            store: where its files go.
            kind: what its rows are.
            shard_rows: most rows in a file.
            shard_bytes: a file ends with the row that makes its values, before compression, this many bytes.
        """
        self._store = store
        self._kind = kind
        self.shard_rows, self.shard_bytes = shard_rows, shard_bytes
        self._cutters: dict[tuple[Part, str], Cutter] = {}
        self._shards: list[Shard] = []
        self._splits: Counter[str] = Counter()
        self._removed: Counter[tuple[str, str]] = Counter()
        self._counts: Counter[str] = Counter()

    def add(self, table: pa.Table | pa.RecordBatch, *, split: str = "train", part: Part = "rows") -> None:
        """Add rows to a part; `split` counts for kept rows only.

        Raises:
            pyarrow.ArrowInvalid: the columns are not those of the part.
        """
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        if not table.num_rows:
            return
        table = self._cast(table, part)
        if part == "removed":
            steps, reasons = table.column("removed_step").to_pylist(), table.column("removed_reason").to_pylist()
            self._removed.update(zip(steps, reasons, strict=True))
        key = (part, split if part == "rows" else "")
        if key not in self._cutters:
            self._cutters[key] = Cutter(self.shard_rows, self.shard_bytes)
        for shard in self._cutters[key].add(table):
            self.take(self.write(shard, split=split, part=part))

    def _cast(self, table: pa.Table, part: Part) -> pa.Table:
        schema = _schema(self._kind, part)
        return up_to_date(table.select(schema.names)).cast(schema)

    def write(self, table: pa.Table, *, split: str = "train", part: Part = "rows") -> Shard:
        """Write rows as one file, which is part of the version once it is taken; may be called on several threads.

        Raises:
            pyarrow.ArrowInvalid: the columns are not those of the part.
        """
        sink = pa.BufferOutputStream()
        table = self._cast(table, part)
        repeating = [path for path in _leaves(table.schema) if path not in _DIFFERENT]
        pq.write_table(table, sink, compression="zstd", row_group_size=8192, use_dictionary=repeating)
        data = memoryview(sink.getvalue()).cast("B")
        digest = self._store.put_bytes(data)
        named = split if part == "rows" else ""
        return Shard(part=part, split=named, digest=digest, rows=table.num_rows, size_bytes=len(data))

    def take(self, shard: Shard, removals: Mapping[tuple[str, str], int] | None = None) -> None:
        """Make a written file the next one of its part and split.

        Args:
            shard: the file.
            removals: how many of its rows left by which step and reason, where they were removed.
        """
        self._shards.append(shard)
        self._counts[shard.part] += shard.rows
        if shard.part == "rows":
            self._splits[shard.split] += shard.rows
        self._removed.update(removals or {})

    def finish(
        self,
        *,
        rows_in: int,
        parents: Sequence[str] = (),
        steps: Sequence[Mapping[str, Any]] = (),
        decontaminated_against: Sequence[str] = (),
        statistics: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Write what is left, then the manifest.

        Args:
            rows_in: rows that came in, counted where they came in.
            parents: digests of the manifests the rows were made from.
            steps: how they were made, as JSON values.
            decontaminated_against: manifest digests of benchmarks compared with.
            statistics: anything to keep with it, as JSON values.

        Raises:
            ManifestUnbalanced: rows were lost or doubled on the way.
        """
        for key in sorted(self._cutters):
            for shard in self._cutters[key].rest():
                self.take(self.write(shard, split=key[1], part=key[0]))
        # Which part's shard was full first depends on the batches that came in.
        self._shards.sort(key=lambda shard: (PARTS.index(shard.part), shard.split))
        manifest = Manifest(
            kind=self._kind,
            shards=tuple(self._shards),
            splits=dict(sorted(self._splits.items())),
            rows_in=rows_in,
            rows_out=self._counts["rows"],
            removed=dict(self._removed),
            quarantined=self._counts["quarantined"],
            parents=tuple(parents),
            steps=tuple(steps),
            decontaminated_against=tuple(sorted(decontaminated_against)),
            statistics=statistics or {},
        )
        manifest.check()
        digest = self._store.put_bytes(canonical_json(manifest.to_json()))
        return Manifest.from_json(manifest.to_json(), digest)


class DatasetReader:
    """Reads a dataset version by the digest of its manifest."""

    def __init__(self, store: Store, digest: str) -> None:
        """Open it.

        Raises:
            BlobMissing: there is no such manifest.
            NotAManifest: the blob is something else.
        """
        self._store = store
        try:
            value = json.loads(store.get_bytes(digest))
        except ValueError:
            raise NotAManifest(f"{digest} is not a dataset manifest", digest=digest) from None
        if not isinstance(value, dict):
            raise NotAManifest(f"{digest} is not a dataset manifest", digest=digest)
        self.manifest = Manifest.from_json(value, digest)

    def shards(self, split: str | None = None, part: Part = "rows") -> list[Shard]:
        """The files of a part, of one split or of all."""
        return [
            s for s in self.manifest.shards if s.part == part and (split is None or part != "rows" or s.split == split)
        ]

    def batches(
        self,
        split: str | None = None,
        part: Part = "rows",
        *,
        columns: Sequence[str] | None = None,
        batch_rows: int = 8192,
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a part in stored order, a batch at a time; one shard is in memory at once."""
        for shard in self.shards(split, part):
            yield from self.shard_batches(shard, columns=columns, batch_rows=batch_rows)

    def shard_bytes(self, shard: Shard) -> bytes:
        """One file, in Parquet."""
        return self._store.get_bytes(shard.digest)

    def map_shard(self, shard: Shard, *, verified: bool = False) -> mmap.mmap | bytes:
        """One file, in Parquet, mapped where the store is a folder; `verified` says that it was verified before."""
        return self._store.map_bytes(shard.digest, verified=verified)

    def shard_batches(
        self, shard: Shard, *, columns: Sequence[str] | None = None, batch_rows: int = 8192
    ) -> Iterator[pa.RecordBatch]:
        """The rows of one file, in the schema of today whenever it was written."""
        file = pq.ParquetFile(pa.BufferReader(self.shard_bytes(shard)))
        chosen = None if columns is None else list(columns)
        yield from map(up_to_date, file.iter_batches(batch_size=batch_rows, columns=chosen))

    def table(self, split: str | None = None, part: Part = "rows", *, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of a part in memory."""
        batches = list(self.batches(split, part, columns=columns))
        if batches:
            return pa.Table.from_batches(batches)
        empty = cast("pa.Table", _schema(self.manifest.kind, part).empty_table())
        return empty if columns is None else empty.select(list(columns))
