"""Sends files to ingestion: streamed, checked by digest, gone on with after a break, never sent twice."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from anneal.kit.errors import Conflict
from anneal.kit.rpc.status import RETRYABLE, refusal_of
from anneal.v1 import ingestion_service_pb2 as pb

CHUNK_BYTES = 1 << 19
READ_BYTES = 1 << 20
TRIES = 30
BUSY_TRIES = 600
"""Of an upload that another call holds: the server may be storing a large file whose sender went away."""
PAUSE_S = 1.0

OnBytes = Callable[[int, int], None]
"""Given bytes that are done, and bytes in all."""

_GOES_ON = ("UPLOAD_BUSY", "UPLOAD_OUT_OF_ORDER", "UPLOAD_CUT_OFF")
"""Reasons after which the upload goes on where it is: another call was, or still is, sending it."""


class FileChanged(Conflict):
    """A file is another one than it was when it was read first."""

    reason = "FILE_CHANGED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A file as it was read once.

    Attributes:
        path: where it is.
        size_bytes: its size.
        digest: `sha256:<hex>` of its bytes.
        state: what tells whether it changed since.
    """

    path: Path
    size_bytes: int
    digest: str
    state: tuple[int, ...]

    def check(self) -> None:
        """See that the file is still the one that was read.

        Raises:
            FileChanged: it is not.
        """
        try:
            same = _state(self.path.stat()) == self.state
        except FileNotFoundError:
            same = False
        if not same:
            raise FileChanged(
                f"{self.path} changed while it was sent; wait until nothing writes it, and try again",
                path=str(self.path),
            )


@dataclass(frozen=True, slots=True)
class Sent:
    """A complete upload, and how many bytes of it went over the wire now."""

    upload: pb.Upload
    sent_bytes: int


def measure(path: Path, on_bytes: OnBytes = lambda *_: None) -> Measured:
    """Read a file once.

    Raises:
        FileChanged: it changed meanwhile.
        OSError: it cannot be read.
    """
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        while block := file.read(READ_BYTES):
            digest.update(block)
            done += len(block)
            on_bytes(done, before.st_size)
    measured = Measured(path=path, size_bytes=done, digest=f"sha256:{digest.hexdigest()}", state=_state(before))
    measured.check()
    return measured


def send(ingestion: Any, parent: str, file: Measured, name: str, on_bytes: OnBytes = lambda *_: None) -> Sent:
    """Send a file; the same file again sends nothing, a cut upload goes on where it stopped.

    Args:
        ingestion: stub of the ingestion service.
        parent: `projects/{project}`.
        file: what is sent.
        name: its path inside the collection.
        on_bytes: given bytes that are safe or on their way, and bytes in all.

    Raises:
        FileChanged: the file is another one than was measured.
        grpc.RpcError: the server refused, or was away for `TRIES` tries in a row.
    """
    sending = _Sending(ingestion, parent, file, name, on_bytes)
    known = sending.known()  # where no server is, that is said at once
    tries, restarted, furthest = 0, False, 0
    while True:
        try:
            known = known or sending.known()
            if known is not None and known.complete:
                return Sent(known, sending.sent_bytes)
            offset = known.committed_bytes if known is not None else 0
            if offset > furthest:
                furthest, tries = offset, 0
            return sending.send_from(offset)
        except grpc.RpcError as error:
            file.check()
            failed: Any = error
            refusal = refusal_of(failed)
            reason = refusal.reason if refusal is not None else ""
            wrong_start = reason == "UPLOAD_DIGEST_MISMATCH" and furthest > 0 and not restarted
            restarted = restarted or wrong_start  # the server threw away what was sent before, which was not this file
            tries += 1
            limit = BUSY_TRIES if reason == "UPLOAD_BUSY" else TRIES
            if tries >= limit or not (failed.code() in RETRYABLE or reason in _GOES_ON or wrong_start):
                raise
            known = None
            time.sleep(0 if wrong_start else PAUSE_S)


class _Sending:
    """One file on its way, over as many calls as it takes."""

    def __init__(self, ingestion: Any, parent: str, file: Measured, name: str, on_bytes: OnBytes) -> None:
        upload_id = f"u-{hashlib.sha256(name.encode()).hexdigest()[:8]}-{file.digest[7:31]}"
        self._ingestion, self._file, self._on_bytes = ingestion, file, on_bytes
        self._name = f"{parent}/uploads/{upload_id}"
        self._header = pb.UploadHeader(
            parent=parent, upload_id=upload_id, path=name, size_bytes=file.size_bytes, digest=file.digest
        )
        self._failure: OSError | None = None
        self.sent_bytes = 0

    def known(self) -> pb.Upload | None:
        """How far the upload is; None where there is none yet."""
        try:
            upload: pb.Upload = self._ingestion.GetUpload(pb.GetUploadRequest(name=self._name))
        except grpc.RpcError as error:
            missing: Any = error
            if missing.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return None
        return upload

    def send_from(self, offset: int) -> Sent:
        """Send the bytes from an offset on."""
        self._failure = None
        try:
            done = self._ingestion.UploadDocuments(self._messages(offset))
        except grpc.RpcError:
            if self._failure is not None:  # gRPC only says that the iterator failed
                raise self._failure from None
            raise
        return Sent(done, self.sent_bytes)

    def _messages(self, offset: int) -> Iterator[pb.UploadDocumentsRequest]:
        yield pb.UploadDocumentsRequest(header=self._header)
        at, size = offset, self._file.size_bytes
        try:
            with self._file.path.open("rb") as file:
                file.seek(at)
                while at < size and (block := file.read(min(CHUNK_BYTES, size - at))):
                    self.sent_bytes += len(block)
                    yield pb.UploadDocumentsRequest(chunk=pb.UploadChunk(offset=at, data=block))
                    at += len(block)
                    self._on_bytes(at, size)
        except OSError as error:
            self._failure = error
            raise


def _state(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
