"""Sending a file through everything that may happen to a connection; what goes on, and what is given up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from anneal.cli import uploads
from anneal.cli.uploads import FileChanged, Measured, measure, send
from anneal.ingestion.domain.errors import UploadBusy, UploadDigestMismatch, UploadMissing, UploadOutOfOrder
from anneal.kit.errors import Invalid, Refusal
from anneal.kit.rpc.status import encode_refusal
from anneal.v1 import ingestion_service_pb2 as pb

SIZE = 5 * uploads.CHUNK_BYTES


def _as_sent(refusal: Refusal) -> tuple[grpc.StatusCode, str, Any]:
    status: Any = rpc_status.to_status(encode_refusal(refusal))
    return status.code, status.details, status.trailing_metadata


class Failed(grpc.RpcError):
    """What a call ends with, as a channel raises it."""

    def __init__(self, cause: Refusal | grpc.StatusCode) -> None:
        made: tuple[grpc.StatusCode, str, Any]
        made = (cause, "", ()) if isinstance(cause, grpc.StatusCode) else _as_sent(cause)
        self._code, self._details = made[:2]
        self._trailing: Any = made[2]

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailing


Event = Exception | Callable[[], None] | None


class Server:
    """Keeps what arrives; each call ends with the next event, after so many chunks."""

    def __init__(self, *events: tuple[int, Event]) -> None:
        self._events = list(events)
        self.kept = b""
        self.complete = False
        self.away = 0
        self.sends = 0

    def GetUpload(self, request: pb.GetUploadRequest) -> pb.Upload:
        if self.away:
            self.away -= 1
            raise Failed(grpc.StatusCode.UNAVAILABLE)
        if not self.kept:
            raise Failed(UploadMissing("there is none"))
        return pb.Upload(name=request.name, committed_bytes=len(self.kept), complete=self.complete)

    def UploadDocuments(self, messages: Iterator[pb.UploadDocumentsRequest]) -> pb.Upload:
        self.sends += 1
        header = next(messages).header
        count, event = self._events.pop(0) if self._events else (-1, None)
        while count != 0 and (message := next(messages, None)) is not None:
            assert message.chunk.offset == len(self.kept)
            self.kept += message.chunk.data
            count -= 1
        if isinstance(event, Exception):
            raise event
        if event is not None:
            event()
            return self.UploadDocuments(iter([pb.UploadDocumentsRequest(header=header), *messages]))
        assert len(self.kept) == header.size_bytes
        self.complete = True
        return pb.Upload(name=f"{header.parent}/uploads/{header.upload_id}", complete=True)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made: list[float] = []
    monkeypatch.setattr("anneal.cli.uploads.time.sleep", made.append)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Measured:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(SIZE))
    return measure(path)


def sent(server: Server, file: Measured) -> int:
    done = send(server, "projects/p", file, "weights")
    assert done.upload.complete
    assert server.kept == file.path.read_bytes()
    return done.sent_bytes


def lost() -> Failed:
    return Failed(grpc.StatusCode.UNAVAILABLE)


def test_a_file_is_sent_and_the_same_again_is_not(file: Measured, pauses: list[float]) -> None:
    server = Server()
    assert sent(server, file) == SIZE
    assert sent(server, file) == 0
    assert (server.sends, pauses) == (1, [])


def test_a_connection_that_breaks_again_and_again_costs_nothing_twice(file: Measured, pauses: list[float]) -> None:
    server = Server((2, lost()), (0, lost()), (1, lost()))
    assert sent(server, file) == SIZE
    assert (server.sends, len(pauses)) == (4, 3)


def test_a_server_that_is_away_for_a_while_is_asked_again(file: Measured, pauses: list[float]) -> None:
    server = Server((1, lost()))

    def gone(_: float) -> None:
        server.away = 3 if not pauses else server.away
        pauses.append(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anneal.cli.uploads.time.sleep", gone)
        assert sent(server, file) == SIZE
    assert len(pauses) == 4


def test_where_no_server_is_it_is_said_at_once(file: Measured, pauses: list[float]) -> None:
    server = Server()
    server.away = 1
    with pytest.raises(Failed):
        sent(server, file)
    assert pauses == []


def test_a_server_that_takes_nothing_is_given_up(file: Measured, pauses: list[float]) -> None:
    server = Server(*[(0, lost())] * 100)
    with pytest.raises(Failed):
        sent(server, file)
    assert server.sends == uploads.TRIES


@pytest.mark.parametrize("refusal", [UploadBusy("held"), UploadOutOfOrder("moved")])
def test_an_upload_that_another_call_holds_is_waited_for(file: Measured, pauses: list[float], refusal: Refusal) -> None:
    server = Server(*[(0, Failed(refusal))] * 20)
    assert sent(server, file) == SIZE
    assert len(pauses) == 20


def test_what_was_there_before_and_is_another_file_is_sent_anew_once(file: Measured, pauses: list[float]) -> None:
    server = Server()

    def thrown_away() -> None:
        server.kept = b""
        raise Failed(UploadDigestMismatch("other bytes"))

    server.kept = b"x" * uploads.CHUNK_BYTES
    server._events = [(4, thrown_away)]
    assert sent(server, file) == 2 * SIZE - uploads.CHUNK_BYTES
    server = Server((5, thrown_away))
    with pytest.raises(Failed):
        sent(server, file)  # nothing was there before: it is the file itself, or the way


def test_a_refusal_is_not_asked_again(file: Measured, pauses: list[float]) -> None:
    with pytest.raises(Failed):
        sent(Server((0, Failed(Invalid.field("header.size_bytes", "too large")))), file)
    assert pauses == []


def test_a_file_that_changed_is_the_reason_of_whatever_failed(file: Measured, pauses: list[float]) -> None:
    def change() -> None:
        file.path.write_bytes(b"other")
        raise Failed(UploadDigestMismatch("other bytes"))

    with pytest.raises(FileChanged, match="weights changed while it was sent"):
        sent(Server((5, change)), file)


def test_a_file_that_cannot_be_read_any_more_is_said_so(file: Measured, pauses: list[float]) -> None:
    class Iterating(Server):
        def UploadDocuments(self, messages: Iterator[pb.UploadDocumentsRequest]) -> pb.Upload:
            file.path.rename(file.path.with_suffix(".moved"))
            try:
                return super().UploadDocuments(messages)
            except OSError as error:
                raise Failed(grpc.StatusCode.UNKNOWN) from error  # as gRPC does

    with pytest.raises((FileChanged, FileNotFoundError), match="weights"):
        sent(Iterating(), file)
