"""Parts of a curation, in files that survive attempts, and the index that survives the job.

A part is an Arrow file below the job's scratch folder, named by its key and mapped when it is read: signatures of all
rows never are in memory together. The index of a dataset version is a blob that maps keys to blobs of parts. The next
version of the same dataset takes from it what it can: parts of pieces that it has in common with this one. They are
mapped where they lie in a store that is a folder, and fetched once from any other.
"""

from __future__ import annotations

import json
import mmap
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from anneal.curation.domain.pieces import FORMAT
from anneal.kit.digests import canonical_json
from anneal.kit.sides import side_by_side
from anneal.kit.store import Store

HELD_BYTES, HELD_PARTS = 512 << 20, 640
"""Parts up to this size and number stay open, because opening one costs more than reading a column of it."""
SMALL_BYTES = 64 << 10
"""Smaller parts are read, not mapped: a mapped file is an open one, of which a process may have some 1,000."""


class ScratchVault:
    """Parts in a folder; those that it lacks come from an index, if that has them."""

    def __init__(self, folder: Path, store: Store | None = None, index: Index | None = None) -> None:
        """Open it.

        Args:
            folder: where parts are.
            store: where the blobs of the index are.
            index: of the version before.
        """
        self._folder, self._store, self._index = folder, store, index or Index()
        self._lock, self._room = threading.Lock(), HELD_BYTES
        self._held: dict[str, pa.RecordBatch] = {}
        self._verified: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.arrow"

    def has(self, key: str) -> bool:
        """Whether a part is there."""
        return key in self._index.parts or self._path(key).exists()

    def put(self, key: str, part: pa.RecordBatch) -> None:
        """Keep a part; two may put the same at once."""
        path = self._path(key)
        fresh = path.with_suffix(f".{id(part):x}.new")
        with pa.OSFile(str(fresh), "wb") as sink, pa.ipc.new_file(sink, part.schema) as writer:
            writer.write_batch(part)
        fresh.replace(path)

    def open(self, key: str) -> pa.RecordBatch:
        """A part, mapped."""
        held = self._held.get(key)
        if held is not None:
            return held
        part = pa.ipc.open_file(self._source(key)).get_batch(0)
        with self._lock:
            if part.nbytes <= self._room and len(self._held) < HELD_PARTS and key not in self._held:
                self._room -= part.nbytes
                self._held[key] = part
        return part

    def _source(self, key: str) -> pa.NativeFile:
        path = self._path(key)
        if self._store is not None and key in self._index.parts and not path.exists():
            path = self._folder / "fetched" / path.name
            if not path.exists():
                data = self._store.map_bytes(self._index.parts[key], verified=key in self._verified)
                self._verified.add(key)
                if isinstance(data, mmap.mmap):
                    return pa.BufferReader(pa.py_buffer(data))
                path.parent.mkdir(exist_ok=True)
                fresh = path.with_suffix(f".{id(data):x}.new")
                fresh.write_bytes(data)
                fresh.replace(path)
        return pa.memory_map(str(path)) if path.stat().st_size > SMALL_BYTES else pa.BufferReader(path.read_bytes())

    def ready(self, keys: Sequence[str]) -> None:
        """Fetch and verify parts of the index, several at once."""
        wanted = [key for key in keys if key in self._index.parts and key not in self._verified]
        for _ in side_by_side(self.open, wanted):
            pass

    def note(self, name: str) -> str | None:
        """The key of what the version before kept under a name."""
        return self._index.notes.get(name)

    def publish(self, keys: Iterable[str], notes: Mapping[str, str], store: Store) -> str:
        """Keep parts beyond the job; returns the digest of their index."""
        parts = {}
        for key in sorted(keys):
            path = self._path(key)
            parts[key] = store.put_file(path) if path.exists() else self._index.parts[key]
        return store.put_bytes(canonical_json({"format": FORMAT, "parts": parts, "notes": dict(notes)}))


@dataclass(frozen=True, slots=True)
class Index:
    """What a dataset version keeps for the next one: the digests of parts by their keys, and the keys of notes."""

    parts: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, store: Store, digest: str) -> Index:
        """An index; empty where it is in another format, which another version of this code made."""
        value = json.loads(store.get_bytes(digest))
        return cls(value["parts"], value["notes"]) if value.get("format") == FORMAT else cls()
