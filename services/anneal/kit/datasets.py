"""Dataset versions: zstd Parquet shards and a manifest that names them all by digest.

The manifest holds nothing that depends on when or by whom it was written, so the same rows, made the same way, have the
same digest everywhere.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq

from anneal.kit.digests import canonical_json
from anneal.kit.errors import Invalid, NotYet
from anneal.kit.records import QUARANTINE, SCHEMAS, RecordKind, removed_schema
from anneal.kit.store import Store

Part = Literal["rows", "removed", "quarantined"]
PARTS: tuple[Part, ...] = ("rows", "removed", "quarantined")
FORMAT = "anneal-dataset/1"
SHARD_ROWS = 50_000
SHARD_BYTES = 64 << 20


class ManifestUnbalanced(NotYet):
    """Rows in are not rows out + removed + quarantined."""

    reason = "MANIFEST_UNBALANCED"


class NotAManifest(Invalid):
    """The blob is not a dataset manifest."""

    reason = "NOT_A_MANIFEST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One Parquet file of a dataset version."""

    part: Part
    split: str
    digest: str
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a dataset version consists of.

    Attributes:
        digest: `sha256:<hex>` of the manifest's own canonical JSON.
        kind: `document` or `conversation`.
        shards: every file, in reading order.
        splits: rows kept, by split.
        rows_in: rows that came in; equals rows out + removed + quarantined.
        rows_out: rows kept.
        removed: `(step, reason)` -> rows.
        quarantined: rows that could not be read.
        parents: digests of the manifests it was made from.
        steps: how it was made, as JSON values.
        decontaminated_against: manifest digests of the benchmarks the training rows were compared with.
        statistics: anything a service wants to keep with it, as JSON values.
    """

    digest: str = ""
    kind: RecordKind
    shards: tuple[Shard, ...] = ()
    splits: Mapping[str, int] = field(default_factory=dict)
    rows_in: int
    rows_out: int
    removed: Mapping[tuple[str, str], int] = field(default_factory=dict)
    quarantined: int = 0
    parents: tuple[str, ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()
    decontaminated_against: tuple[str, ...] = ()
    statistics: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON values, without its digest."""
        removed = [{"step": step, "reason": reason, "rows": n} for (step, reason), n in sorted(self.removed.items())]
        return {
            "format": FORMAT,
            "kind": self.kind,
            "schema": [f"{column.name}: {column.type}" for column in SCHEMAS[self.kind]],
            "shards": [
                {"part": s.part, "split": s.split, "digest": s.digest, "rows": s.rows, "size_bytes": s.size_bytes}
                for s in self.shards
            ],
            "splits": dict(self.splits),
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "removed": removed,
            "quarantined": self.quarantined,
            "parents": list(self.parents),
            "steps": [dict(step) for step in self.steps],
            "decontaminated_against": list(self.decontaminated_against),
            "statistics": dict(self.statistics),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], digest: str) -> Manifest:
        """Read a manifest.

        Raises:
            NotAManifest: the value has another shape.
            ManifestUnbalanced: its counts do not add up.
        """
        try:
            if value["format"] != FORMAT or value["kind"] not in SCHEMAS:
                raise KeyError("format")
            manifest = cls(
                digest=digest,
                kind=value["kind"],
                shards=tuple(Shard(**shard) for shard in value["shards"]),
                splits=dict(value["splits"]),
                rows_in=value["rows_in"],
                rows_out=value["rows_out"],
                removed={(entry["step"], entry["reason"]): entry["rows"] for entry in value["removed"]},
                quarantined=value["quarantined"],
                parents=tuple(value["parents"]),
                steps=tuple(value["steps"]),
                decontaminated_against=tuple(value["decontaminated_against"]),
                statistics=value["statistics"],
            )
        except (KeyError, TypeError):
            raise NotAManifest(f"{digest} is not a dataset manifest", digest=digest) from None
        manifest.check()
        return manifest

    def check(self) -> None:
        """Check that the rows add up.

        Raises:
            ManifestUnbalanced: they do not.
        """
        held = Counter[str]()
        for shard in self.shards:
            held[shard.part] += shard.rows
        counted = {"rows": self.rows_out, "removed": sum(self.removed.values()), "quarantined": self.quarantined}
        total = sum(counted.values())
        if total != self.rows_in or any(held[part] != n for part, n in counted.items()):
            raise ManifestUnbalanced(
                f"{self.rows_in} rows came in, but {counted['rows']} were kept, {counted['removed']} removed and "
                f"{counted['quarantined']} quarantined (in files: {dict(held)})",
                rows_in=str(self.rows_in),
                rows_accounted=str(total),
            )


class DatasetWriter:
    """Writes one dataset version. Rows keep the order in which they are added, within their part and split."""

    def __init__(self, store: Store, kind: RecordKind, *, shard_rows: int = SHARD_ROWS) -> None:
        self._store = store
        self._kind = kind
        self._shard_rows = shard_rows
        self._schemas = {"rows": SCHEMAS[kind], "removed": removed_schema(kind), "quarantined": QUARANTINE}
        self._waiting: dict[tuple[Part, str], list[pa.Table]] = {}
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
        table = table.select(self._schemas[part].names).cast(self._schemas[part])
        self._counts[part] += table.num_rows
        if part == "rows":
            self._splits[split] += table.num_rows
        if part == "removed":
            steps, reasons = table.column("removed_step").to_pylist(), table.column("removed_reason").to_pylist()
            self._removed.update(zip(steps, reasons, strict=True))
        key = (part, split if part == "rows" else "")
        waiting = self._waiting.setdefault(key, [])
        waiting.append(table)
        if sum(t.num_rows for t in waiting) >= self._shard_rows or sum(t.nbytes for t in waiting) >= SHARD_BYTES:
            self._flush(key, rest=False)

    def _flush(self, key: tuple[Part, str], *, rest: bool) -> None:
        table = pa.concat_tables(self._waiting.pop(key))
        # Shards end at fixed row counts, so that the size of the batches that came in does not show.
        whole = (
            table.num_rows
            if rest or table.nbytes >= SHARD_BYTES
            else table.num_rows - table.num_rows % self._shard_rows
        )
        for start in range(0, whole, self._shard_rows):
            self._write(key, table.slice(start, min(self._shard_rows, whole - start)))
        if whole < table.num_rows:
            self._waiting[key] = [table.slice(whole)]

    def _write(self, key: tuple[Part, str], table: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(table.combine_chunks(), sink, compression="zstd", row_group_size=8192)
        data = sink.getvalue().to_pybytes()
        digest = self._store.put_bytes(data)
        shard = Shard(part=key[0], split=key[1], digest=digest, rows=table.num_rows, size_bytes=len(data))
        self._shards.append(shard)

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
        for key in sorted(self._waiting):
            self._flush(key, rest=True)
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

    def shard_batches(
        self, shard: Shard, *, columns: Sequence[str] | None = None, batch_rows: int = 8192
    ) -> Iterator[pa.RecordBatch]:
        """The rows of one file."""
        file = pq.ParquetFile(pa.BufferReader(self._store.get_bytes(shard.digest)))
        yield from file.iter_batches(batch_size=batch_rows, columns=None if columns is None else list(columns))

    def table(self, split: str | None = None, part: Part = "rows", *, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of a part in memory."""
        batches = list(self.batches(split, part, columns=columns))
        if batches:
            return pa.Table.from_batches(batches)
        kind = self.manifest.kind
        schema = {"rows": SCHEMAS[kind], "removed": removed_schema(kind), "quarantined": QUARANTINE}[part]
        empty = cast("pa.Table", schema.empty_table())
        return empty if columns is None else empty.select(list(columns))
