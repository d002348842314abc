"""Uploads on disk: bytes are appended and flushed as they come, so that a cut upload goes on where it stopped."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anneal.ingestion.domain.errors import (
    UploadBusy,
    UploadCutOff,
    UploadDigestMismatch,
    UploadExists,
    UploadIncomplete,
    UploadMissing,
    UploadOutOfOrder,
)
from anneal.kit.digests import digest_of_file
from anneal.kit.errors import Invalid
from anneal.kit.store import Store

FLUSH_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """What the header of an upload says."""

    name: str
    path: str
    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadState:
    """How far an upload is."""

    announced: Announced
    committed_bytes: int
    complete: bool


class Uploads:
    """The staging area. One writer an upload; the bytes move into the store when they are whole."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self._store = store
        self._writing: set[str] = set()
        self._turns = threading.Lock()

    def _place(self, name: str) -> Path:
        _, project, _, upload = name.split("/")
        return self._folder / project / upload

    def get(self, name: str) -> UploadState:
        """How far an upload is.

        Raises:
            UploadMissing: there is none of that name.
        """
        place = self._place(name)
        try:
            announced = Announced(**json.loads((place / "header.json").read_text()))
        except OSError:
            raise UploadMissing(f"there is no upload {name}", upload=name) from None
        # A store that was emptied, or exchanged, has lost what was complete: it is sent again.
        if (place / "complete").exists() and self._store.exists(announced.digest):
            return UploadState(announced=announced, committed_bytes=announced.size_bytes, complete=True)
        part = place / "part"
        size = part.stat().st_size if part.exists() else 0
        return UploadState(announced=announced, committed_bytes=size, complete=False)

    def blob(self, name: str) -> Announced:
        """The header of a whole upload; its digest is in the store.

        Raises:
            UploadMissing: there is none of that name.
            UploadIncomplete: bytes are missing.
        """
        state = self.get(name)
        if not state.complete:
            raise UploadIncomplete(
                f"{name} has {state.committed_bytes} of {state.announced.size_bytes} bytes; send the rest first",
                upload=name,
            )
        return state.announced

    def open(self, announced: Announced) -> Writing:
        """Begin an upload, or go on with it.

        Raises:
            UploadExists: the id belongs to another file.
            UploadBusy: another call is sending this upload right now.
        """
        name = announced.name
        with self._turns:
            if name in self._writing:
                raise UploadBusy(f"{name} is being sent by another call", upload=name)
            self._writing.add(name)
        try:
            return Writing(self, announced, self._known(announced))
        except BaseException:
            self.release(name)
            raise

    @asynccontextmanager
    async def turn(self, announced: Announced) -> AsyncIterator[Writing]:
        """The turn of one call at an upload; it ends also where the caller goes away while a thread is at work.

        Raises:
            UploadExists: the id belongs to another file.
            UploadBusy: another call is sending this upload right now.
        """
        opening = asyncio.create_task(asyncio.to_thread(self.open, announced))

        async def end() -> None:
            await asyncio.wait([opening])
            if opening.exception() is None:
                await asyncio.to_thread(opening.result().close)

        try:
            yield await asyncio.shield(opening)
        finally:
            await asyncio.shield(asyncio.create_task(end()))

    def _known(self, announced: Announced) -> UploadState:
        """Where an upload stands that may be new."""
        name = announced.name
        place = self._place(name)
        if not (place / "header.json").exists():
            place.mkdir(parents=True, exist_ok=True)
            _write_whole(place / "header.json", asdict(announced))
        known = self.get(name)
        if known.announced != announced:
            raise UploadExists(f"{name} is another file ({known.announced.path})", upload=name)
        return known

    def finish(self, announced: Announced) -> None:
        """Check the digest and move the bytes into the store; bytes that are not the announced ones are thrown away.

        Raises:
            UploadDigestMismatch: they have another digest.
        """
        place = self._place(announced.name)
        part = place / "part"
        found = digest_of_file(part)
        if found != announced.digest:
            part.unlink()
            raise UploadDigestMismatch(
                f"{announced.path}: the bytes have {found}, announced was {announced.digest}; send the file again",
                found=found,
                announced=announced.digest,
            )
        self._store.put_file(part)
        _write_whole(place / "complete", {"digest": found})
        part.unlink()

    def release(self, name: str) -> None:
        """Let another call write this upload."""
        self._writing.discard(name)

    def part(self, name: str) -> Path:
        """The file that grows."""
        return self._place(name) / "part"


class Writing:
    """One call's turn at an upload, to be closed from any thread: closing waits for the write that is under way."""

    def __init__(self, uploads: Uploads, announced: Announced, state: UploadState) -> None:
        self._uploads = uploads
        self.announced = announced
        self.complete = state.complete
        # Of a file that is whole already this counts what comes again, which is compared and not kept.
        self.committed_bytes = 0 if state.complete else state.committed_bytes
        self._again = hashlib.sha256()
        self._file = None if state.complete else uploads.part(announced.name).open("ab")
        self._unflushed = 0
        self._lock = threading.Lock()

    def append(self, offset: int, data: bytes) -> None:
        """Add the next bytes.

        Raises:
            UploadOutOfOrder: the offset is not where the upload is.
            Invalid: more bytes than announced.
        """
        with self._lock:
            self._append(offset, data)

    def _append(self, offset: int, data: bytes) -> None:
        announced = self.announced
        if offset != self.committed_bytes:
            raise UploadOutOfOrder(
                f"{announced.path}: a chunk begins at {offset}, the upload is at {self.committed_bytes}; go on there",
                offset=str(offset),
                committed_bytes=str(self.committed_bytes),
            )
        if offset + len(data) > announced.size_bytes:
            raise Invalid.field("chunk.data", f"goes beyond the announced {announced.size_bytes} bytes")
        self.committed_bytes += len(data)
        if self._file is None:
            self._again.update(data)
            return
        self._file.write(data)
        self._unflushed += len(data)
        if self._unflushed >= FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._unflushed = 0

    def close(self) -> None:
        """End this call's turn; what came so far stays."""
        with self._lock:
            if self._file is not None:
                self._flush()
                self._file.close()
                self._file = None
        self._uploads.release(self.announced.name)

    def finish(self) -> None:
        """Check and keep the whole file. One that was whole before is left as it is, also when only a part came again.

        Raises:
            UploadCutOff: the stream ended before the file did.
            UploadDigestMismatch: the bytes are not the announced ones.
        """
        with self._lock:
            announced = self.announced
            if self.complete:
                self._compare()
                return
            if self.committed_bytes < announced.size_bytes:
                raise UploadCutOff(
                    f"{announced.path}: {self.committed_bytes} of {announced.size_bytes} bytes came; they are safe, "
                    "go on there",
                    committed_bytes=str(self.committed_bytes),
                )
            self._flush()
            self._uploads.finish(announced)
            self.complete = True

    def _compare(self) -> None:
        announced, found = self.announced, f"sha256:{self._again.hexdigest()}"
        if self.committed_bytes == announced.size_bytes > 0 and found != announced.digest:
            raise UploadDigestMismatch(
                f"{announced.path}: the bytes that came again have {found}, those that are kept {announced.digest}",
                found=found,
                announced=announced.digest,
            )


def _write_whole(path: Path, value: Mapping[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
