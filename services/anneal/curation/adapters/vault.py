"""Parts of a curation, in files that survive attempts, and the index that survives the job.

A part is an Arrow file below the job's scratch folder, named by its key and mapped when it is read: signatures of all
rows never are in memory together. The index of a dataset version keeps parts in packs (`packs.py`). The next version of
the same dataset takes from it what it can: parts of pieces that it has in common with this one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import pyarrow as pa

from anneal.curation.adapters.packs import Index, Pack, Packs, cut, write_pack
from anneal.kit.store import Store

HELD_BYTES, HELD_PARTS = 512 << 20, 512
"""Parts up to this size and number stay open, because opening one costs more than reading a column of it."""
SMALL_BYTES = 64 << 10
"""Smaller parts are read, not mapped: a mapped file is an open one, of which a process may have some 1,000."""


class ScratchVault:
    """Parts in a folder; those that it lacks come from an index, if that has them."""

    def __init__(self, folder: Path, store: Store | None = None, index: Index | None = None) -> None:
        """Open it.

        Args:
            folder: where parts are.
            store: where the packs of the index are.
            index: of the version before.
        """
        folder.mkdir(parents=True, exist_ok=True)
        index = index or Index()
        self._folder, self._notes = folder, index.notes
        self._packs = Packs(index.packs, store, folder / "fetched")
        self._here = {path.stem for path in folder.glob("*.arrow")}
        self._lock, self._held_bytes = threading.Lock(), 0
        self._held: dict[str, pa.RecordBatch] = {}

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.arrow"

    def has(self, key: str) -> bool:
        """Whether a part is there."""
        return key in self._here or key in self._packs

    def put(self, key: str, part: pa.RecordBatch) -> None:
        """Keep a part; two may put the same at once."""
        path = self._path(key)
        fresh = path.with_suffix(f".{id(part):x}.new")
        with pa.OSFile(str(fresh), "wb") as sink, pa.ipc.new_file(sink, part.schema) as writer:
            writer.write_batch(part)
        fresh.replace(path)
        self._here.add(key)
        self._forget(key)

    def open(self, key: str) -> pa.RecordBatch:
        """A part, mapped."""
        with self._lock:
            held = self._held.pop(key, None)
            if held is not None:
                self._held[key] = held  # the last to be let go
                return held
        part = pa.ipc.open_file(self._source(key)).get_batch(0)
        with self._lock:
            if key not in self._held:
                self._held_bytes += part.nbytes
                self._held[key] = part
            while self._held_bytes > HELD_BYTES or len(self._held) > HELD_PARTS:
                self._held_bytes -= self._held.pop(next(iter(self._held))).nbytes
        return part

    def _forget(self, key: str) -> None:
        with self._lock:
            held = self._held.pop(key, None)
            if held is not None:
                self._held_bytes -= held.nbytes

    def _source(self, key: str) -> pa.NativeFile:
        if key not in self._here:
            return pa.BufferReader(self._packs.bytes_of(key))
        path = self._path(key)
        return pa.memory_map(str(path)) if path.stat().st_size > SMALL_BYTES else pa.BufferReader(path.read_bytes())

    def ready(self, keys: Sequence[str]) -> None:
        """Fetch and verify parts of the index, several at once."""
        self._packs.ready(key for key in keys if key not in self._here)

    def note(self, name: str) -> str | None:
        """The key of what the version before kept under a name."""
        return self._notes.get(name)

    def publish(self, runs: Iterable[Sequence[str]], notes: Mapping[str, str], store: Store) -> str:
        """Keep parts beyond the job; returns the digest of their index.

        Args:
            runs: keys of parts, in runs that grow at their ends from one version to the next.
            notes: keys of notes by their names.
            store: where they go.
        """
        seen: set[str] = set()
        packs = []
        for run in runs:
            new = [key for key in dict.fromkeys(run) if key not in seen]
            seen.update(new)
            packs += [self._pack(keys, store) for keys in cut(new)]
        return Index(packs, notes).write(store)

    def _pack(self, keys: Sequence[str], store: Store) -> Pack:
        known = self._packs.of(keys)
        if known is not None and self._here.isdisjoint(keys):
            return known
        made = BytesIO()
        sizes = write_pack(made, self._bytes_of(keys))
        return Pack(store.put_bytes(made.getbuffer()), sizes)

    def _bytes_of(self, keys: Sequence[str]) -> Iterator[tuple[str, memoryview]]:
        for key in keys:
            data = self._path(key).read_bytes() if key in self._here else self._packs.bytes_of(key)
            yield key, memoryview(data).cast("B")
