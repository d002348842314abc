"""Uploads over a real channel: whole, cut off and gone on with, and everything that is refused."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from anneal.ingestion.settings import IngestionOptions
from anneal.kit.rpc.status import refusal_of
from anneal.v1 import ingestion_service_pb2 as pb
from tests.fixtures.ingestion_house import House, chunk, header, messages, refused, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

DATA = bytes(range(256)) * 10_000  # 2.4 MiB: three chunks
MAX_BYTES = 8 << 20


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    options = IngestionOptions(max_upload_bytes=MAX_BYTES)
    async with running(tmp_path_factory.mktemp("uploads"), options) as found:
        yield found


async def get(house: House, upload_id: str) -> pb.Upload:
    upload: pb.Upload = await house.ingestion.GetUpload(pb.GetUploadRequest(name=f"projects/p/uploads/{upload_id}"))
    return upload


async def committed(house: House, upload_id: str, wanted: int) -> None:
    """Wait until so many bytes of an upload are safe."""
    async with asyncio.timeout(10):
        while True:
            with suppress(grpc.aio.AioRpcError):
                if (await get(house, upload_id)).committed_bytes == wanted:
                    return
            await asyncio.sleep(0.02)


async def test_a_whole_upload_is_complete_and_safe(house: House) -> None:
    done = await house.ingestion.UploadDocuments(messages("a/b.bin", DATA, "whole"))
    assert (done.name, done.path, done.complete) == ("projects/p/uploads/whole", "a/b.bin", True)
    assert done.size_bytes == done.committed_bytes == len(DATA)
    assert done.digest == "sha256:" + hashlib.sha256(DATA).hexdigest()
    assert await get(house, "whole") == done
    assert house.host.store.get_bytes(done.digest) == DATA
    again = await house.ingestion.UploadDocuments(iter([header("a/b.bin", DATA, "whole")]))
    assert again == done


async def test_a_stream_that_ends_early_is_told_where_to_go_on(house: House) -> None:
    first = [header("cut.bin", DATA, "cut-off"), chunk(0, DATA[: 1 << 20])]
    code, reason, _ = await refused(house.ingestion.UploadDocuments(iter(first)))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_CUT_OFF")
    known = await get(house, "cut-off")
    assert (known.committed_bytes, known.complete) == (1 << 20, False)
    rest = [first[0], chunk(1 << 20, DATA[1 << 20 : 2 << 20]), chunk(2 << 20, DATA[2 << 20 :])]
    assert (await house.ingestion.UploadDocuments(iter(rest))).complete


async def test_a_caller_that_goes_away_leaves_its_bytes_and_no_lock(house: House) -> None:
    call = house.ingestion.UploadDocuments()
    await call.write(header("gone.bin", DATA, "gone-away"))
    await call.write(chunk(0, DATA[:1000]))
    await committed(house, "gone-away", 0)  # begun, and the bytes not flushed yet
    call.cancel()
    await asyncio.sleep(0.5)
    start = (await get(house, "gone-away")).committed_bytes
    assert start in (0, 1000)  # the caller may be gone before its chunk was taken
    rest = [header("gone.bin", DATA, "gone-away")]
    rest += [chunk(at, DATA[at : at + 500_000]) for at in range(start, len(DATA), 500_000)]
    assert (await house.ingestion.UploadDocuments(iter(rest))).complete


async def test_two_calls_cannot_send_the_same_upload(house: House) -> None:
    call = house.ingestion.UploadDocuments()
    await call.write(header("busy.bin", DATA, "busy"))
    await committed(house, "busy", 0)
    code, reason, _ = await refused(house.ingestion.UploadDocuments(messages("busy.bin", DATA, "busy")))
    assert (code, reason) == (grpc.StatusCode.ABORTED, "UPLOAD_BUSY")
    for at in range(0, len(DATA), 1 << 20):
        await call.write(chunk(at, DATA[at : at + (1 << 20)]))
    await call.done_writing()
    assert (await call).complete


@pytest.mark.parametrize("offset", [1, 1 << 20])
async def test_a_chunk_out_of_order_is_refused(house: House, offset: int) -> None:
    sent = [header("order.bin", DATA, "out-of-order"), chunk(offset, DATA[:10])]
    code, reason, _ = await refused(house.ingestion.UploadDocuments(iter(sent)))
    assert (code, reason) == (grpc.StatusCode.ABORTED, "UPLOAD_OUT_OF_ORDER")


async def test_a_chunk_sent_twice_is_refused_and_nothing_is_doubled(house: House) -> None:
    first = [header("twice.bin", DATA, "twice"), chunk(0, DATA[:1000]), chunk(0, DATA[:1000])]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.ingestion.UploadDocuments(iter(first))
    refusal = refusal_of(caught.value)
    assert refusal is not None
    assert (refusal.reason, refusal.facts["committed_bytes"]) == ("UPLOAD_OUT_OF_ORDER", "1000")
    rest = [chunk(at, DATA[at : at + (1 << 20)]) for at in range(1000, len(DATA), 1 << 20)]
    assert (await house.ingestion.UploadDocuments(iter([first[0], *rest]))).complete
    assert house.host.store.get_bytes("sha256:" + hashlib.sha256(DATA).hexdigest()) == DATA


async def test_a_whole_file_sent_again_is_answered_with_it(house: House) -> None:
    done = await house.ingestion.UploadDocuments(messages("again.bin", DATA, "again"))
    assert await house.ingestion.UploadDocuments(messages("again.bin", DATA, "again")) == done
    # A caller that stops early is told as well: the file is whole.
    part = [header("again.bin", DATA, "again"), chunk(0, DATA[:1000])]
    assert await house.ingestion.UploadDocuments(iter(part)) == done
    other = [header("again.bin", DATA, "again")]
    other += [chunk(at, bytes(len(DATA[at : at + 500_000]))) for at in range(0, len(DATA), 500_000)]
    code, reason, _ = await refused(house.ingestion.UploadDocuments(iter(other)))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_DIGEST_MISMATCH")
    assert await get(house, "again") == done
    assert house.host.store.get_bytes(done.digest) == DATA


async def test_other_bytes_than_announced_are_thrown_away(house: House) -> None:
    wrong = [header("digest.bin", b"right", "digest"), chunk(0, b"wrong")]
    code, reason, _ = await refused(house.ingestion.UploadDocuments(iter(wrong)))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_DIGEST_MISMATCH")
    assert (await get(house, "digest")).committed_bytes == 0
    assert (await house.ingestion.UploadDocuments(messages("digest.bin", b"right", "digest"))).complete


@pytest.mark.parametrize("other", [{"path": "other.bin"}, {"size_bytes": 6}, {"digest": "sha256:" + "0" * 64}])
async def test_an_id_stands_for_one_file(house: House, other: dict[str, Any]) -> None:
    taken = "taken-by-" + next(iter(other)).split("_")[0]
    await house.ingestion.UploadDocuments(messages("one.bin", b"bytes", taken))
    code, reason, _ = await refused(
        house.ingestion.UploadDocuments(iter([header("one.bin", b"bytes", taken, **other)]))
    )
    assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "UPLOAD_EXISTS")


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"parent": "p"}, "header.parent"),
        ({"upload_id": "No_Id"}, "header.upload_id"),
        ({"upload_id": "abc"}, "header.upload_id"),
        ({"path": "../up"}, "header.path"),
        ({"path": "/root"}, "header.path"),
        ({"path": "a\\..\\b"}, "header.path"),
        ({"size_bytes": -1}, "header.size_bytes"),
        ({"size_bytes": MAX_BYTES + 1}, "header.size_bytes"),
        ({"digest": "md5:00"}, "header.digest"),
        ({"digest": "sha256:" + "G" * 64}, "header.digest"),
    ],
)
async def test_a_bad_header_names_its_field(house: House, other: dict[str, Any], field: str) -> None:
    code, _, fields = await refused(house.ingestion.UploadDocuments(iter([header("a", b"a", "good", **other)])))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ([], "header"),
        ([chunk(0, b"a")], "header"),
        ([pb.UploadDocumentsRequest()], "header"),
        ([header("m", b"ab", "messages"), header("m", b"ab", "messages")], "chunk"),
        ([header("m", b"ab", "messages"), chunk(0, b"")], "chunk.data"),
        ([header("m", DATA, "large-chunk"), chunk(0, DATA[: (1 << 20) + 1])], "chunk.data"),
        ([header("m", b"ab", "messages"), chunk(0, b"abc")], "chunk.data"),
    ],
)
async def test_a_stream_of_the_wrong_shape_names_its_field(
    house: House, sent: list[pb.UploadDocumentsRequest], field: str
) -> None:
    code, _, fields = await refused(house.ingestion.UploadDocuments(iter(sent)))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


async def test_an_unknown_upload_is_missing(house: House) -> None:
    code, reason, _ = await refused(get(house, "nobody"))
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "UPLOAD_MISSING")
    code, _, fields = await refused(house.ingestion.GetUpload(pb.GetUploadRequest(name="projects/p/uploads/../x")))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["name"])


async def test_an_upload_goes_on_after_the_server_was_restarted(tmp_path: Path) -> None:
    async with running(tmp_path) as first:
        call = first.ingestion.UploadDocuments()
        await call.write(header("long.bin", DATA, "restarted"))
        await call.write(chunk(0, DATA[: 1 << 20]))
        await call.done_writing()
        await refused(call)
    async with running(tmp_path) as second:
        at = (await get(second, "restarted")).committed_bytes
        assert at == 1 << 20
        rest = [header("long.bin", DATA, "restarted"), chunk(at, DATA[at : 2 * at]), chunk(2 * at, DATA[2 * at :])]
        assert (await second.ingestion.UploadDocuments(iter(rest))).complete
        assert second.host.store.get_bytes("sha256:" + hashlib.sha256(DATA).hexdigest()) == DATA
