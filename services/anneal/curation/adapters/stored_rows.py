"""Rows between the engine and the store."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from anneal.curation.domain.output import File
from anneal.curation.domain.pieces import Piece
from anneal.kit.datasets import DatasetReader, DatasetWriter
from anneal.kit.manifests import Shard
from anneal.kit.records import up_to_date

PIECE_ROWS = 8192
"""A row group: enough that calls cost nothing beside rows, and rows are not copied to lie in one piece."""
RECENT_SHARDS = 4
FIRST_BYTES, LAST_BYTES = 256 << 20, 96 << 20
"""So much of the pieces that were read first stays in memory, and of those that were read last."""


class StoredRows:
    """The kept rows of dataset versions, one version after the other."""

    def __init__(self, readers: Sequence[DatasetReader], piece_rows: int = PIECE_ROWS) -> None:
        """Read versions.

        Args:
            readers: of versions of one kind.
            piece_rows: most rows of a piece; changes nothing but speed and memory.
        """
        self._readers = tuple(readers)
        self._recent, self._loaded = _Recent(), _Loaded()
        self._where: list[tuple[DatasetReader, Shard, int]] = []
        self._pieces: list[Piece] = []
        start = 0
        for origin, reader in enumerate(self._readers):
            for shard in reader.shards():
                for first in range(0, shard.rows, piece_rows):
                    rows = min(piece_rows, shard.rows - first)
                    self._where.append((reader, shard, first))
                    key = f"{shard.digest}:{first}:{rows}"
                    self._pieces.append(Piece(start, rows, shard.split, key, origin))
                    start += rows
        self._places = {piece.start: place for place, piece in enumerate(self._pieces)}

    @property
    def pieces(self) -> Sequence[Piece]:
        """All rows, in their order."""
        return self._pieces

    def load(self, piece: Piece, columns: Sequence[str] = ()) -> pa.RecordBatch:
        """The rows of a piece: all columns, or those of some names that there are."""
        reader, shard, first = self._where[self._places[piece.start]]
        held = self._loaded.get(piece.key)
        if held is not None:
            return held
        file = self._recent.file(reader, shard)
        groups: list[int] = []
        begin, before = 0, 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if before + rows > first and before < first + piece.rows:
                begin = before if not groups else begin
                groups.append(group)
            before += rows
        chosen = [name for name in columns if name in file.schema_arrow.names] or None
        table = file.read_row_groups(groups, chosen, use_threads=False).slice(first - begin, piece.rows)
        batch = up_to_date(table).combine_chunks().to_batches()[0]
        if not columns:
            self._loaded.put(piece.key, batch)
        return batch


class _Loaded:
    """Pieces that were read, the first ones up to a size and the last ones; not pickled.

    So those of a small dataset are read once, and of a large one those that two files are made of one after the other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, pa.RecordBatch] = {}
        self._last: OrderedDict[str, pa.RecordBatch] = OrderedDict()
        self._room, self._last_room = FIRST_BYTES, LAST_BYTES

    def __reduce__(self) -> Any:
        return _Loaded, ()

    def get(self, key: str) -> pa.RecordBatch | None:
        return self._held.get(key, self._last.get(key))

    def put(self, key: str, batch: pa.RecordBatch) -> None:
        with self._lock:
            if key in self._held or key in self._last:
                return
            if batch.nbytes <= self._room:
                self._room -= batch.nbytes
                self._held[key] = batch
                return
            self._last_room -= batch.nbytes
            self._last[key] = batch
            while self._last_room < 0:
                self._last_room += self._last.popitem(last=False)[1].nbytes


class _Recent:
    """The shards that were read last, so that each is fetched, verified and its footer read once; not pickled."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[pa.Buffer, pq.FileMetaData]] = OrderedDict()
        self._verified: set[str] = set()

    def __reduce__(self) -> Any:
        return _Recent, ()

    def file(self, reader: DatasetReader, shard: Shard) -> pq.ParquetFile:
        with self._lock:
            if shard.digest not in self._held:
                data = pa.py_buffer(reader.map_shard(shard, verified=shard.digest in self._verified))
                self._held[shard.digest] = data, pq.read_metadata(pa.BufferReader(data))
                self._verified.add(shard.digest)
                if len(self._held) > RECENT_SHARDS:
                    self._held.popitem(last=False)
            self._held.move_to_end(shard.digest)
            data, metadata = self._held[shard.digest]
        return pq.ParquetFile(pa.BufferReader(data), metadata=metadata)


class DatasetSink:
    """Writes kept and removed rows into one new version."""

    def __init__(self, writer: DatasetWriter) -> None:
        self._writer = writer

    @property
    def limits(self) -> tuple[int, int]:
        """Most rows of a file, and bytes with which one ends."""
        return self._writer.shard_rows, self._writer.shard_bytes

    def write(self, file: File, rows: pa.Table) -> Shard:
        """Write a file."""
        return self._writer.write(rows, split=file.split, part=file.part)

    def add(self, file: File, written: Shard) -> None:
        """Take a written file."""
        self._writer.take(written, file.removals)

    def note(self, written: Shard) -> pa.RecordBatch:
        """What was written, to be recalled."""
        return pa.RecordBatch.from_pylist(
            [{"digest": written.digest, "rows": written.rows, "size": written.size_bytes}]
        )

    def recall(self, file: File, note: pa.RecordBatch) -> Shard:
        """What was written before."""
        (row,) = note.to_pylist()
        split = file.split if file.part == "rows" else ""
        return Shard(part=file.part, split=split, digest=row["digest"], rows=row["rows"], size_bytes=row["size"])
