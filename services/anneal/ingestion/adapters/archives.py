"""Archives as a stream of files, one in memory at a time, bounded in expansion, count and depth.

Nothing is ever unpacked to disk, so a hostile member name can write nowhere; it is refused all the same.
"""

from __future__ import annotations

import bz2
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from anneal.ingestion.domain.errors import ArchiveRefused
from anneal.ingestion.domain.limits import ArchiveLimits
from anneal.kit.errors import Invalid
from anneal.kit.store import safe_relative_path

_READ = 1 << 16
# xz asks for the dictionary its header names, up to 4 GiB; the strongest preset needs 65 MiB.
_MAX_XZ_MEMORY = 256 << 20
_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\xfd7zXZ\x00", "xz"), (b"BZh", "bzip2"))
_TAR_MARK, _TAR_MARK_AT = b"ustar", 257
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError, NotImplementedError)


def is_archive(path: Path) -> bool:
    """Tell by content whether a file is a zip, or a tar, compressed or not."""
    with path.open("rb") as file:
        head = file.read(_TAR_MARK_AT + len(_TAR_MARK))
    compressed = any(head.startswith(magic) for magic, _ in _MAGIC)
    return compressed or head[_TAR_MARK_AT:] == _TAR_MARK or head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def is_compressed(path: Path) -> bool:
    """Tell by content whether a file is compressed by gzip, xz or bzip2."""
    with path.open("rb") as file:
        head = file.read(8)
    return any(head.startswith(magic) for magic, _ in _MAGIC)


def expand(path: Path, target: Path, limits: ArchiveLimits) -> None:
    """Expand a compressed file that holds one file.

    Raises:
        ArchiveRefused: it cannot be read, or goes beyond a limit.
    """
    try:
        with path.open("rb") as raw, target.open("wb") as out:
            expanded = _Expanded(raw, limits)
            while piece := expanded.read(_READ):
                out.write(piece)
    except _BROKEN as error:
        raise ArchiveRefused(f"{path.name} cannot be read: {error}"[:500], archive=path.name) from error


def members(path: Path, limits: ArchiveLimits) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the bytes of every file in an archive, in the archive's order.

    Raises:
        ArchiveRefused: the archive cannot be read, holds links, devices, encrypted or doubled members or paths that
            leave its root, or goes beyond a limit. Members before that point were yielded.
    """
    seen: set[str] = set()
    read = _zip_members if zipfile.is_zipfile(path) and not is_compressed(path) else _tar_members
    try:
        for name, data in read(path, limits):
            if name in seen:
                raise ArchiveRefused(f"{name!r} is in the archive twice", member=name)
            seen.add(name)
            yield name, data
    except _BROKEN as error:
        raise ArchiveRefused(f"the archive cannot be read: {error}"[:500], archive=path.name) from error


def _tar_members(path: Path, limits: ArchiveLimits) -> Iterator[tuple[str, bytes]]:
    # The stream counts what it expands before tarfile sees it: headers and padding count as well.
    with path.open("rb") as raw, tarfile.open(fileobj=_Expanded(raw, limits), mode="r|") as archive:
        for number, member in enumerate(archive, start=1):
            _check_count(number, limits)
            if member.isdir():
                continue
            if not member.isreg():
                raise ArchiveRefused(f"{member.name!r} is a link or a device", member=member.name)
            name = _check_name(member.name.removeprefix("./"), member.size, limits)
            file = archive.extractfile(member)
            data = file.read() if file else b""
            if len(data) != member.size:
                raise ArchiveRefused(f"the archive ends inside {name!r}", member=name)
            yield name, data


def _zip_members(path: Path, limits: ArchiveLimits) -> Iterator[tuple[str, bytes]]:
    total = 0
    with zipfile.ZipFile(path) as archive:
        for number, member in enumerate(archive.infolist(), start=1):
            _check_count(number, limits)
            if member.is_dir():
                continue
            if stat.S_ISLNK(member.external_attr >> 16):
                raise ArchiveRefused(f"{member.filename!r} is a link", member=member.filename)
            if member.flag_bits & 1:
                raise ArchiveRefused(f"{member.filename!r} is encrypted", member=member.filename)
            name = _check_name(member.filename, member.file_size, limits)
            total += member.file_size
            _check_expansion(total, path.stat().st_size, limits)
            with archive.open(member) as file:
                yield name, _read_member(file, name, limits)


def _read_member(file: IO[bytes], name: str, limits: ArchiveLimits) -> bytes:
    """Read one member; its header may understate its size."""
    data = file.read(limits.max_member_bytes + 1)
    _check_size(name, len(data), limits)
    return data


def _check_count(number: int, limits: ArchiveLimits) -> None:
    if number > limits.max_members:
        raise ArchiveRefused(f"more than {limits.max_members} members", limit=str(limits.max_members))


def _check_name(name: str, size: int, limits: ArchiveLimits) -> str:
    try:
        safe_relative_path(name)
    except Invalid as error:
        raise ArchiveRefused(f"{name[:200]!r} leaves the archive's root", member=name[:200]) from error
    if name.count("/") > limits.max_depth:
        raise ArchiveRefused(f"{name[:200]!r} is deeper than {limits.max_depth} folders", member=name[:200])
    _check_size(name, size, limits)
    return name


def _check_size(name: str, size: int, limits: ArchiveLimits) -> None:
    if size > limits.max_member_bytes:
        raise ArchiveRefused(f"{name[:200]!r} is larger than {limits.max_member_bytes} bytes", member=name[:200])


def _check_expansion(expanded: int, compressed: int, limits: ArchiveLimits) -> None:
    if expanded > limits.max_total_bytes:
        raise ArchiveRefused(f"expands to more than {limits.max_total_bytes} bytes", limit=str(limits.max_total_bytes))
    if expanded > limits.ratio_slack_bytes and expanded > limits.max_ratio * compressed:
        raise ArchiveRefused(f"expands more than {limits.max_ratio:g} times", limit=f"{limits.max_ratio:g}")


class _Expanded(io.RawIOBase):
    """A compressed (or plain) file read as what it expands to, never more than asked for at once."""

    def __init__(self, raw: BinaryIO, limits: ArchiveLimits) -> None:
        self._raw = raw
        self._limits = limits
        head = raw.read(8)
        raw.seek(0)
        self._codec = next((name for magic, name in _MAGIC if head.startswith(magic)), "")
        self._decoder: Any = self._new_decoder()
        self._waiting = b""
        self._compressed = self._expanded = 0

    def _new_decoder(self) -> Any:
        match self._codec:
            case "gzip":
                return zlib.decompressobj(wbits=31)
            case "xz":
                return lzma.LZMADecompressor(memlimit=_MAX_XZ_MEMORY)
            case "bzip2":
                return bz2.BZ2Decompressor()
        return None

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return exactly `size` expanded bytes, fewer only at the end."""
        pieces = []
        wanted = size if size >= 0 else self._limits.max_total_bytes
        while wanted:
            piece = self._some(wanted)
            if not piece:
                break
            self._expanded += len(piece)
            _check_expansion(self._expanded, self._compressed, self._limits)
            pieces.append(piece)
            wanted -= len(piece)
        return b"".join(pieces)

    def _some(self, most: int) -> bytes:
        """Return 1 to `most` expanded bytes; none at the end."""
        if self._decoder is None:
            return self._take(min(most, _READ))
        while True:
            if self._decoder.eof:
                # Concatenated streams are one file; zero padding after the last is allowed, as tar and xz do.
                rest = (self._decoder.unused_data or self._take(_READ)).lstrip(b"\0")
                if not rest:
                    return b""
                self._decoder, self._waiting = self._new_decoder(), rest
            data = self._feed() if self._needs_input() else b""
            if data is None:
                raise EOFError("the compressed data ends too early")
            piece: bytes = self._decoder.decompress(data, most)
            if self._codec == "gzip":
                self._waiting = self._decoder.unconsumed_tail
            if piece:
                return piece

    def _needs_input(self) -> bool:
        return self._codec == "gzip" or self._decoder.needs_input

    def _feed(self) -> bytes | None:
        data, self._waiting = self._waiting or self._take(_READ), b""
        return data or None

    def _take(self, size: int) -> bytes:
        data = self._raw.read(size)
        self._compressed += len(data)
        return data
