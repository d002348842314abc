"""Parts of a curation, in files that survive attempts, and the index that survives the job.

A part is an Arrow file below the job's scratch folder, named by its key and mapped when it is read: signatures of all
rows never are in memory together. The index of a dataset version is a blob that maps keys to blobs of parts. The next
version of the same dataset takes from it what it can: parts of pieces that it has in common with this one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from anneal.curation.domain.pieces import FORMAT
from anneal.kit.digests import canonical_json
from anneal.kit.store import Store


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
        path = self._path(key)
        if not path.exists() and self._store is not None and key in self._index.parts:
            fresh = path.with_suffix(".fetched")
            fresh.write_bytes(self._store.get_bytes(self._index.parts[key]))
            fresh.replace(path)
        return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)

    def note(self, name: str) -> str | None:
        """The key of what the version before kept under a name."""
        return self._index.notes.get(name)

    def publish(self, keys: Iterable[str], notes: Mapping[str, str], store: Store) -> str:
        """Keep parts beyond the job; returns the digest of their index."""
        parts = {key: self._index.parts.get(key) or store.put_file(self._path(key)) for key in sorted(keys)}
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
