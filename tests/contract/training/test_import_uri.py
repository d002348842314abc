"""A base model in an object store, read by the job with the credentials of its environment: real S3 requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import obstore
import pytest
from obstore.store import from_url

from anneal.v1 import job_service_pb2 as jobs
from anneal.v1 import model_pb2
from anneal.v1 import training_service_pb2 as pb
from tests.fixtures.s3 import Bucket
from tests.fixtures.tiny_model import write_base
from tests.fixtures.training_house import PROJECT, House, details, refusal

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(180)]

SECRET, KEY = "s3cr3t-never-shown", "AKIANEVERSHOWN"


@pytest.fixture
def bucket(s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket that job processes reach by their environment."""
    said = {**s3_bucket.environment, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "NO_PROXY": "127.0.0.1"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    return s3_bucket


def fill(bucket: Bucket, folder: Path, prefix: str) -> None:
    store = from_url(f"s3://{bucket.name}/{prefix}", **bucket.options)
    for path in folder.rglob("*"):
        if path.is_file():
            obstore.put(store, path.relative_to(folder).as_posix(), path)


async def imported(house: House, uri: str, model_id: str) -> Any:
    request = pb.ImportModelRequest(parent=PROJECT, model_id=model_id, uri=uri)
    return await house.finished(await house.training.ImportModel(request))


async def failed(house: House, uri: str, model_id: str = "none") -> tuple[str, str]:
    done = await imported(house, uri, model_id)
    assert done.HasField("error")
    message = done.error.message
    assert "\n" not in message
    assert SECRET not in message
    assert KEY not in message
    return details(done.error)[0], message


async def test_a_model_in_a_bucket_is_the_model_that_its_folder_is(
    house: House, base: model_pb2.Model, bucket: Bucket, tmp_path: Path
) -> None:
    folder = write_base(tmp_path / "base")
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    (folder / "original").mkdir()
    (folder / "original" / "config.json").write_text("{}")
    fill(bucket, folder, "models/tiny")
    uri = f"s3://{bucket.name}/models/tiny"
    done = await imported(house, f"{uri}/", "from-bucket")
    made = model_pb2.Model()
    assert done.response.Unpack(made), done.error
    assert (made.digest, made.origin) == (base.digest, uri)
    logs = [event.log for event in await house.events(done.name) if event.HasField("log")]
    said = "left out: original/ (a folder), pytorch_model.bin (pickled, never loaded)"
    assert [(log.level, log.text) for log in logs] == [("warning", said)]
    progress = [e.progress for e in await house.events(done.name) if e.HasField("progress")]
    assert all(isinstance(p, jobs.Progress) for p in progress)
    again = model_pb2.Model()
    assert (await imported(house, uri, "from-bucket")).response.Unpack(again)
    assert again == made


async def test_what_the_bucket_does_not_give_is_told_apart(house: House, bucket: Bucket, tmp_path: Path) -> None:
    reason, message = await failed(house, f"s3://{bucket.name}-none/x")
    assert (reason, f"no bucket {bucket.name}-none" in message) == ("MODEL_URI_MISSING", True)
    reason, message = await failed(house, f"s3://{bucket.name}/nowhere")
    assert (reason, "nothing below" in message) == ("MODEL_URI_MISSING", True)
    folder = write_base(tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    fill(bucket, folder, "pickled")
    reason, message = await failed(house, f"s3://{bucket.name}/pickled")
    assert (reason, "pytorch_model.bin (pickled, never loaded)" in message) == ("BASE_MODEL_UNUSABLE", True)


async def test_other_files_under_the_same_id_are_refused(
    house: House, base: model_pb2.Model, bucket: Bucket, tmp_path: Path
) -> None:
    fill(bucket, write_base(tmp_path / "other", seed=8), "other")
    reason, message = await failed(house, f"s3://{bucket.name}/other", "base")
    assert (reason, "choose another id" in message) == ("MODEL_EXISTS", True)


@contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """A store that refuses every request as S3 does, and repeats the caller's key while it does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"<Error><Code>{code}</Code><AWSAccessKeyId>{KEY}</AWSAccessKeyId></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is logged."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "code", "reason", "says"),
    [
        (403, "InvalidAccessKeyId", "MODEL_URI_DENIED", "may not be listed .*403 InvalidAccessKeyId.*env_from_secrets"),
        (401, "Unauthorized", "MODEL_URI_DENIED", "may not be listed"),
        (400, "AuthorizationHeaderMalformed", "MODEL_URI_UNREACHABLE", "400 AuthorizationHeaderMalformed"),
    ],
)
async def test_a_store_that_refuses_is_not_quoted(
    house: House, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, status: int, code: str, reason: str, says: str
) -> None:
    with answering(status, code) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        found, message = await failed(house, "s3://bucket/x")
    assert found == reason
    assert re.search(says, message), message


async def test_a_store_that_is_away_and_one_that_nothing_is_known_of(
    house: House, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    reason, message = await failed(house, "s3://bucket/x")
    assert (reason, "does not answer" in message) == ("MODEL_URI_UNREACHABLE", True)
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    reason, message = await failed(house, "az://container/x")
    assert (reason, "AZURE_*" in message) == ("MODEL_URI_UNREACHABLE", True)


async def test_a_uri_that_is_not_allowed_is_refused_at_once(house: House) -> None:
    async def ask(uri: str) -> tuple[str, str, list[str]]:
        request = pb.ImportModelRequest(parent=PROJECT, model_id="m", uri=uri)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await house.training.ImportModel(request)
        return refusal(caught.value)

    assert (await ask("gs://bucket/x"))[:2] == ("PERMISSION_DENIED", "MODEL_URI_NOT_ALLOWED")
    assert await ask("file:///models") == ("INVALID_ARGUMENT", "INVALID_REQUEST", ["uri"])
    assert (await ask("s3://key:secret@bucket/x"))[2] == ["uri"]
