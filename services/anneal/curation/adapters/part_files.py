"""Parts in files of a folder: those that were found together are in one, which is whole or not there.

A file is parts one behind the other, as Arrow streams, then a table of contents in JSON, then how long that is.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

import pyarrow as pa

from anneal.curation.adapters.packs import padding

SMALL_BYTES = 64 << 10
"""Smaller parts are read, not mapped: a mapped file is an open one, of which a process may have some 1,000."""
_LENGTH_BYTES, _BUFFER_BYTES = 8, 64 << 10


class _Place(NamedTuple):
    path: Path
    begin: int
    size: int


class PartFiles:
    """Parts by their keys. May be used on several threads."""

    def __init__(self, folder: Path) -> None:
        """Find the parts that are there."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._places: dict[str, _Place] = {}
        self._mapped: WeakValueDictionary[Path, mmap.mmap] = WeakValueDictionary()
        for path in folder.glob("*.parts"):
            self._places.update(_contents(path))

    def __contains__(self, key: str) -> bool:
        """Whether a part is there."""
        return key in self._places

    @property
    def mapped(self) -> int:
        """How many files are mapped for parts that are in use."""
        return len(self._mapped)

    def size_of(self, key: str) -> int:
        """Bytes of a part."""
        return self._places[key].size

    def write(self, parts: Mapping[str, pa.RecordBatch]) -> None:
        """Write parts, all or none; two threads may write the same."""
        path = self._folder / f"{sha256(' '.join(parts).encode()).hexdigest()[:40]}.parts"
        fresh = path.with_suffix(f".{id(parts):x}.new")
        contents: list[tuple[str, int, int]] = []
        with pa.OSFile(str(fresh), "wb") as file, pa.BufferedOutputStream(file, _BUFFER_BYTES) as sink:
            for key, part in parts.items():
                begin = sink.tell()
                with pa.ipc.new_stream(sink, part.schema) as writer:
                    writer.write_batch(part)
                contents.append((key, begin, sink.tell() - begin))
                sink.write(bytes(padding(sink.tell())))
            said = json.dumps(contents).encode()
            sink.write(said + len(said).to_bytes(_LENGTH_BYTES, "little"))
        fresh.replace(path)
        self._mapped.pop(path, None)
        self._places.update({key: _Place(path, begin, size) for key, begin, size in contents})

    def bytes_of(self, key: str) -> pa.Buffer:
        """A part: mapped, or read where it is small and its file is not mapped for another."""
        path, begin, size = self._places[key]
        mapped = self._mapped.get(path)
        if mapped is None:
            with path.open("rb") as file:
                if size <= SMALL_BYTES:
                    file.seek(begin)
                    return pa.py_buffer(file.read(size))
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                self._mapped[path] = mapped
        return pa.py_buffer(mapped).slice(begin, size)


def _contents(path: Path) -> dict[str, _Place]:
    with path.open("rb") as file:
        end = file.seek(-_LENGTH_BYTES, 2)
        size = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        file.seek(end - size)
        return {key: _Place(path, begin, size) for key, begin, size in json.loads(file.read(size))}
