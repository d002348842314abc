"""Packs: many parts in one blob, so that an index of thousands of parts is some dozens to fetch, verify and map.

Which parts stand together follows from their keys and sizes alone: a run is cut behind keys that are marked. So where a
run grows at its end only its last pack changes, and the same parts are in the same packs however they came to be known.
"""

from __future__ import annotations

import json
import mmap
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import pyarrow as pa

from anneal.kit.digests import canonical_json, hex_of
from anneal.kit.sides import side_by_side
from anneal.kit.store import Store

FORMAT = "anneal-curation-index/3"
PACKED, MOST_PACKED = 32, 128
"""One key in so many is the last of its pack, which has at most so many."""
LARGE_PACKED, LARGE_BYTES = 4, 4 << 20
"""The same once a pack has so many bytes: what is large is written anew in small packs when a run grows."""
MOST_MAPPED = 256
"""So many packs stay mapped: each is an open file, of which a process may have some 1,000."""
ALIGNED = 64
"""Parts begin at multiples of so many bytes, as Arrow wants its buffers."""


@dataclass(frozen=True, slots=True)
class Pack:
    """A blob of parts.

    Attributes:
        digest: of the blob.
        sizes: bytes of each part by its key, in their order.
    """

    digest: str
    sizes: Mapping[str, int]

    def offsets(self) -> Iterator[tuple[str, int, int]]:
        """Key of each part, where it begins, and its bytes."""
        begins = accumulate((size + padding(size) for size in self.sizes.values()), initial=0)
        for (key, size), begin in zip(self.sizes.items(), begins, strict=False):
            yield key, begin, size


@dataclass(frozen=True, slots=True)
class Index:
    """What a dataset version keeps for the next one: its parts, and the keys of notes among them."""

    packs: Sequence[Pack] = ()
    notes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, store: Store, digest: str) -> Index:
        """An index; empty where it is in another format, which another version of this code made."""
        value = json.loads(store.get_bytes(digest))
        if value.get("format") != FORMAT:
            return cls()
        return cls([Pack(pack["digest"], dict(pack["parts"])) for pack in value["packs"]], value["notes"])

    def write(self, store: Store) -> str:
        """Keep it; returns its digest."""
        packs = [{"digest": pack.digest, "parts": [list(one) for one in pack.sizes.items()]} for pack in self.packs]
        return store.put_bytes(canonical_json({"format": FORMAT, "packs": packs, "notes": dict(self.notes)}))


class Packs:
    """The parts of an index. A pack is mapped where it lies in a store that is a folder, else fetched once."""

    def __init__(self, packs: Iterable[Pack], store: Store | None, folder: Path) -> None:
        """Open it.

        Args:
            packs: of the index.
            store: where they are; None where there are none.
            folder: for what is fetched.
        """
        self._store, self._folder = store, folder
        self._where = {key: (pack, begin, size) for pack in packs for key, begin, size in pack.offsets()}
        self._packs = {tuple(pack.sizes): pack for pack in packs}
        self._lock = threading.Lock()
        self._mapped: dict[str, pa.Buffer] = {}
        self._verified: set[str] = set()

    def __contains__(self, key: str) -> bool:
        """Whether a part is in the index."""
        return key in self._where

    def bytes_of(self, key: str) -> pa.Buffer:
        """A part, mapped; verified when its pack is mapped."""
        pack, begin, size = self._where[key]
        return self._map(pack).slice(begin, size)

    def size_of(self, key: str) -> int:
        """Bytes of a part."""
        return self._where[key][2]

    def of(self, keys: Sequence[str]) -> Pack | None:
        """The pack that has these parts and no others."""
        return self._packs.get(tuple(keys))

    def ready(self, keys: Iterable[str]) -> None:
        """Fetch and verify packs that have some parts, several at once."""
        packs = {self._where[key][0].digest: self._where[key][0] for key in keys if key in self._where}
        for _ in side_by_side(self._map, [pack for pack in packs.values() if pack.digest not in self._verified]):
            pass

    def _map(self, pack: Pack) -> pa.Buffer:
        with self._lock:
            mapped = self._mapped.pop(pack.digest, None)
        mapped = mapped or pa.py_buffer(self._data(pack.digest))
        with self._lock:
            self._verified.add(pack.digest)
            self._mapped[pack.digest] = mapped  # the last to be let go
            if len(self._mapped) > MOST_MAPPED:
                del self._mapped[next(iter(self._mapped))]
        return mapped

    def _data(self, digest: str) -> mmap.mmap | pa.Buffer:
        """A pack, mapped; verified the first time."""
        path = self._folder / hex_of(digest)
        if digest not in self._verified or not path.exists():
            assert self._store is not None
            data = self._store.map_bytes(digest, verified=digest in self._verified)
            if not isinstance(data, bytes):
                return data
            self._folder.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(f".{id(data):x}.new")
            fresh.write_bytes(data)
            fresh.replace(path)
        return pa.memory_map(str(path)).read_buffer()


def padding(size: int) -> int:
    """Bytes between a part of this size and the next one."""
    return -size % ALIGNED


def cut(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """The keys of each pack of a run.

    Args:
        sizes: bytes of each part by its key, in the order of the run.
    """
    pack: list[str] = []
    filled = 0
    for key, size in sizes.items():
        pack.append(key)
        filled += size
        one_in = LARGE_PACKED if filled >= LARGE_BYTES else PACKED
        if crc32(key.encode()) % one_in == 0 or len(pack) == MOST_PACKED:
            yield pack
            pack, filled = [], 0
    if pack:
        yield pack


def write_pack(file: BinaryIO, parts: Iterable[tuple[str, memoryview]]) -> dict[str, int]:
    """Write parts one behind the other; returns the size of each by its key."""
    sizes = {}
    for key, data in parts:
        file.write(data)
        file.write(bytes(padding(len(data))))
        sizes[key] = len(data)
    return sizes
