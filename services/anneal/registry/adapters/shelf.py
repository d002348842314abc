"""The object store, as the registry uses it: manifests, rows, files that must be there, and self-descriptions."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from anneal.kit.datasets import DatasetReader
from anneal.kit.errors import Invalid
from anneal.kit.manifests import Manifest, ManifestUnbalanced, NotAManifest, Part, Shard
from anneal.kit.messages import plain_row
from anneal.kit.store import BlobDamaged, BlobMissing, Store
from anneal.registry.domain.errors import FilesMissing, ManifestMissing
from anneal.registry.domain.publishing import check_splits

PAGE_BYTES = 2 << 20
"""A page of rows ends here even when more rows were wanted: gRPC clients take 4 MiB unless told otherwise."""

SEARCHED_PARTS: tuple[Part, ...] = ("rows", "removed")
"""Quarantined rows could not be read, so they have no id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRow:
    """One stored row: `split` is empty for rows that were not kept, `id` for rows that could not be read."""

    part: Part
    split: str
    id: str
    json: str


class Shelf:
    """Reads the store in threads, so that the event loop goes on."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def manifest(self, digest: str) -> Manifest:
        """The manifest with this digest, checked: it balances and every file it names is there.

        Raises:
            ManifestMissing: it is not so.
        """
        return await asyncio.to_thread(self._manifest, digest)

    def _manifest(self, digest: str) -> Manifest:
        try:
            manifest = DatasetReader(self._store, digest).manifest
        except (BlobMissing, BlobDamaged, NotAManifest, ManifestUnbalanced) as cause:
            raise ManifestMissing(
                f"{digest} cannot be published: {cause}", digest=digest, cause=cause.reason
            ) from cause
        held = Counter[str]()
        for shard in manifest.shards:
            if shard.part == "rows":
                held[shard.split] += shard.rows
            if not self._store.exists(shard.digest):
                raise ManifestMissing(
                    f"the file {shard.digest} of the manifest {digest} is not in the store",
                    digest=digest,
                    file=shard.digest,
                )
        check_splits(digest, manifest.splits, held)
        return manifest

    async def check_files(self, digest: str, what: str) -> None:
        """Check that the bytes a resource stands for are there.

        Raises:
            FilesMissing: they are not.
        """
        if not await asyncio.to_thread(self._store.exists, digest):
            raise FilesMissing(f"the files of {what}, {digest}, are not in the store", digest=digest)

    async def keep(self, path: str, value: Any) -> None:
        """Write a self-description."""
        await asyncio.to_thread(self._store.put_record, path, value)

    async def page(
        self, digest: str, part: Part, split: str | None, size: int, cursor: Sequence[int]
    ) -> tuple[list[FoundRow], tuple[int, int] | None]:
        """Rows in stored order, from a cursor on, and the cursor of the next page; None at the end.

        Args:
            digest: of the manifest.
            part: which part.
            split: only this split; None takes all.
            size: most rows wanted.
            cursor: number of the file among those of the part and split, and of the row in it.
        """
        return await asyncio.to_thread(self._page, digest, part, split, size, cursor)

    def _page(
        self, digest: str, part: Part, split: str | None, size: int, cursor: Sequence[int]
    ) -> tuple[list[FoundRow], tuple[int, int] | None]:
        shards = DatasetReader(self._store, digest).shards(split, part)
        rows: list[FoundRow] = []
        used = 0
        number, row = cursor
        while number < len(shards):
            for found in self._rows(shards[number], row, size - len(rows)):
                used += len(found.json.encode())
                if rows and used > PAGE_BYTES:
                    return rows, (number, row)
                rows.append(found)
                row += 1
            if row >= shards[number].rows:
                number, row = number + 1, 0
            if len(rows) == size:
                break
        return rows, (number, row) if number < len(shards) else None

    def _rows(self, shard: Shard, start: int, count: int) -> Iterator[FoundRow]:
        """Up to `count` rows of a file from row `start` on; only the row groups that hold them are decoded."""
        file = self._open(shard)
        first = 0
        for group in range(file.num_row_groups):
            held = file.metadata.row_group(group).num_rows
            if first + held > start and count > 0:
                table = file.read_row_group(group).slice(max(start - first, 0), count)
                count -= table.num_rows
                for batch in table.to_batches(max_chunksize=256):
                    yield from (_found(shard, values) for values in batch.to_pylist())
            first += held

    async def search(self, digests: Sequence[str], prefix: str) -> dict[str, list[FoundRow]]:
        """The rows whose id starts with `prefix`, by the digest of the manifest that holds them."""
        return await asyncio.to_thread(self._search, digests, prefix)

    def _search(self, digests: Sequence[str], prefix: str) -> dict[str, list[FoundRow]]:
        seen: dict[str, list[FoundRow]] = {}
        found: dict[str, list[FoundRow]] = {}
        for digest in dict.fromkeys(digests):
            reader = DatasetReader(self._store, digest)
            for shard in (shard for part in SEARCHED_PARTS for shard in reader.shards(part=part)):
                key = f"{shard.part}/{shard.split}/{shard.digest}"
                if key not in seen:
                    seen[key] = self._search_shard(shard, prefix)
                if seen[key]:
                    found.setdefault(digest, []).extend(seen[key])
        return found

    def _search_shard(self, shard: Shard, prefix: str) -> list[FoundRow]:
        """Read the column of ids; decode the other columns only of row groups with a hit."""
        file = self._open(shard)
        found: list[FoundRow] = []
        for group in range(file.num_row_groups):
            ids = file.read_row_group(group, columns=["id"]).column("id")
            hits = pc.indices_nonzero(pc.starts_with(ids, prefix))
            if len(hits):
                table: pa.Table = file.read_row_group(group).take(hits)
                found += [_found(shard, values) for values in table.to_pylist()]
        return found

    def _open(self, shard: Shard) -> pq.ParquetFile:
        return pq.ParquetFile(pa.BufferReader(self._store.get_bytes(shard.digest)))


def _found(shard: Shard, values: dict[str, Any]) -> FoundRow:
    if isinstance(values.get("scores"), list):  # Arrow gives a map as pairs
        values["scores"] = dict(values["scores"])
    text = json.dumps(plain_row(values), ensure_ascii=False, separators=(",", ":"))
    return FoundRow(part=shard.part, split=shard.split, id=values.get("id") or "", json=text)


def read_cursor(value: Any) -> tuple[int, int]:
    """The cursor in a page token; the beginning when there is none.

    Raises:
        Invalid: it is not one.
    """
    if value is None:
        return 0, 0
    match value:
        case [int(number), int(row)] if number >= 0 and row >= 0:
            return number, row
    raise Invalid.field("page_token", "this token was not given by this list")
