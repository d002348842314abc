"""Parts of a curation, in files that survive attempts, and the index that survives the job.

Parts that were found together are one file below the job's scratch folder, mapped when one of them is read: signatures
of all rows never are in memory together. The index of a dataset version keeps parts in packs (`packs.py`). The next
version of the same dataset takes from it what it can: parts of pieces that it has in common with this one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import pyarrow as pa

from anneal.curation.adapters.packs import Index, Pack, Packs, cut, write_pack
from anneal.curation.adapters.part_files import PartFiles
from anneal.kit.sides import side_by_side
from anneal.kit.store import Store

HELD_BYTES, HELD_PARTS, HELD_FILES = 512 << 20, 4096, 384
"""Parts up to this size and number, of so many files, stay open: opening one costs more than reading a column of it."""


class ScratchVault:
    """Parts in a folder; those that it lacks come from an index, if that has them."""

    def __init__(self, folder: Path, store: Store | None = None, index: Index | None = None) -> None:
        """Open it.

        Args:
            folder: where parts are.
            store: where the packs of the index are.
            index: of the version before.
        """
        index = index or Index()
        self._files, self._notes = PartFiles(folder), index.notes
        self._packs = Packs(index.packs, store, folder / "fetched")
        self._lock, self._held_bytes = threading.Lock(), 0
        self._held: dict[str, pa.RecordBatch] = {}

    def has(self, key: str) -> bool:
        """Whether a part is there."""
        return key in self._files or key in self._packs

    def put(self, parts: Mapping[str, pa.RecordBatch]) -> None:
        """Keep parts by their keys, all or none; two may put the same at once."""
        self._files.write(parts)
        with self._lock:
            for key in parts:
                held = self._held.pop(key, None)
                if held is not None:
                    self._held_bytes -= held.nbytes

    def open(self, key: str) -> pa.RecordBatch:
        """A part, mapped."""
        with self._lock:
            held = self._held.pop(key, None)
            if held is not None:
                self._held[key] = held  # the last to be let go
                return held
        part = pa.ipc.open_stream(self._bytes(key)).read_next_batch()
        with self._lock:
            if key not in self._held:
                self._held_bytes += part.nbytes
                self._held[key] = part
            while self._held and self._is_full():
                self._held_bytes -= self._held.pop(next(iter(self._held))).nbytes
        return part

    def _is_full(self) -> bool:
        mapped = self._files.mapped
        return self._held_bytes > HELD_BYTES or len(self._held) > HELD_PARTS or mapped > HELD_FILES

    def _bytes(self, key: str) -> pa.Buffer:
        return self._files.bytes_of(key) if key in self._files else self._packs.bytes_of(key)

    def ready(self, keys: Sequence[str]) -> None:
        """Fetch and verify parts of the index, several at once."""
        self._packs.ready(key for key in keys if key not in self._files)

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
        packs = list(side_by_side(lambda keys: self._pack(keys, store), self._cut(runs), waiting=1))
        return Index(packs, notes).write(store)

    def _cut(self, runs: Iterable[Sequence[str]]) -> Iterator[list[str]]:
        seen: set[str] = set()
        for run in runs:
            new = [key for key in dict.fromkeys(run) if key not in seen]
            seen.update(new)
            yield from cut({key: self._size_of(key) for key in new})

    def _pack(self, keys: Sequence[str], store: Store) -> Pack:
        known = self._packs.of(keys)
        if known is not None and not any(key in self._files for key in keys):
            return known
        made = BytesIO()
        sizes = write_pack(made, self._bytes_of(keys))
        return Pack(store.put_bytes(made.getbuffer()), sizes)

    def _size_of(self, key: str) -> int:
        return self._files.size_of(key) if key in self._files else self._packs.size_of(key)

    def _bytes_of(self, keys: Sequence[str]) -> Iterator[tuple[str, memoryview]]:
        for key in keys:
            yield key, memoryview(self._bytes(key)).cast("B")
