"""Each failure of a store becomes a refusal with a reason of its own, in one line that says what to do."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from anneal.kit.disk import full_disk
from anneal.kit.errors import Kind
from anneal.kit.store import Store
from anneal.kit.store_faults import StoreFault
from tests.fixtures import faulty_s3
from tests.fixtures.certificates import Authority
from tests.fixtures.faulty_s3 import Fault, FaultyS3
from tests.fixtures.postgres import free_port
from tests.fixtures.s3 import Bucket

pytestmark = pytest.mark.s3
DIGEST = "sha256:" + "0" * 64


def calls(store: Store, folder: Path) -> dict[str, Callable[[], Any]]:
    """Everything that asks the store something."""
    file = folder / "file"
    file.write_bytes(b"content of a file")
    return {
        "put_bytes": lambda: store.put_bytes(b"bytes"),
        "put_file": lambda: store.put_file(file),
        "put_tree": lambda: store.put_tree(folder),
        "put_record": lambda: store.put_record("a/b", {}),
        "exists": lambda: store.exists(DIGEST),
        "get_bytes": lambda: store.get_bytes(DIGEST),
        "map_bytes": lambda: store.map_bytes(DIGEST),
        "stream": lambda: list(store.stream(DIGEST)),
        "download": lambda: store.download(DIGEST, folder / "copy"),
        "materialize": lambda: store.materialize(DIGEST),
        "records": lambda: list(store.records()),
    }


def refusal_of(call: Callable[[], Any]) -> StoreFault:
    with pytest.raises(StoreFault) as refused:
        call()
    fault = refused.value
    assert "\n" not in str(fault)
    assert len(str(fault)) < 400
    assert (fault.kind is Kind.DOWN) == (fault.retry_after_s is not None)
    return fault


@pytest.fixture
def faulty(s3_bucket: Bucket) -> Iterator[FaultyS3]:
    with FaultyS3(s3_bucket).running() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


FAULTS: list[tuple[Fault, str, str]] = [
    (faulty_s3.MISSING_BUCKET, "STORE_BUCKET_MISSING", "does not exist: create it, or correct ANNEAL_STORE__URL"),
    (faulty_s3.DENIED, "STORE_ACCESS_DENIED", "there: allow reading, writing, listing and deleting (AccessDenied"),
    (faulty_s3.UNKNOWN_KEY, "STORE_ACCESS_DENIED", "are not accepted: renew those of its secret (InvalidAccessKeyId"),
    (faulty_s3.WRONG_SECRET, "STORE_ACCESS_DENIED", "is wrong, or the clock of this machine is far off"),
    (faulty_s3.EXPIRED, "STORE_ACCESS_DENIED", "are not accepted: renew those of its secret (ExpiredToken"),
    (faulty_s3.SKEWED, "STORE_CLOCK_SKEWED", "set the clock of this machine"),
    (faulty_s3.THROTTLED, "STORE_THROTTLED", "asks for fewer requests (SlowDown"),
    (faulty_s3.BROKEN, "STORE_FAILED", "failed: InternalError"),
    (faulty_s3.ELSEWHERE, "STORE_MISCONFIGURED", "is in another region: set `region`"),
]


@pytest.mark.parametrize(("fault", "reason", "text"), FAULTS, ids=lambda value: getattr(value, "code", ""))
def test_every_call_names_the_cause(
    faulty: FaultyS3, folder: Path, tmp_path: Path, fault: Fault, reason: str, text: str
) -> None:
    heard: list[StoreFault] = []
    store = Store(faulty.bucket.url, tmp_path / "cache", faulty.options, on_fault=heard.append)
    faulty.fault = fault
    for name, call in calls(store, folder).items():
        refused = refusal_of(call)
        assert (name, refused.reason) == (name, reason)
        assert text in str(refused), name
        assert heard[-1] is refused
    faulty.fault = None
    assert store.get_bytes(store.put_bytes(b"again")) == b"again"
    assert not store.exists(DIGEST)


def test_a_full_store_can_be_read(faulty: FaultyS3, folder: Path, tmp_path: Path) -> None:
    store = Store(faulty.bucket.url, tmp_path / "cache", faulty.options)
    digest = store.put_bytes(b"there")
    faulty.fault = faulty_s3.FULL
    for name in ("put_bytes", "put_file", "put_record"):
        assert refusal_of(calls(store, folder)[name]).reason == "STORE_FULL"
    assert store.get_bytes(digest) == b"there"
    store.probe()


def test_a_probe_leaves_nothing_behind(faulty: FaultyS3, tmp_path: Path) -> None:
    store = Store(faulty.bucket.url, tmp_path / "cache", faulty.options)
    store.probe()
    with urlopen(f"{faulty.bucket.endpoint}/{faulty.bucket.name}?list-type=2", timeout=10) as answer:
        assert b"<Key>" not in answer.read()
    other = Store(faulty.bucket.url, tmp_path / "cache", faulty.options)
    assert other._probe_key != store._probe_key


@pytest.mark.parametrize("method", ["PUT", "GET", "POST"])
def test_a_probe_sees_what_is_not_allowed(faulty: FaultyS3, tmp_path: Path, method: str) -> None:
    store = Store(faulty.bucket.url, tmp_path / "cache", faulty.options)
    faulty.fault = Fault(403, "AccessDenied", (method,))
    assert refusal_of(store.probe).reason == "STORE_ACCESS_DENIED"


def test_a_bucket_that_is_really_missing(s3_bucket: Bucket, folder: Path, tmp_path: Path) -> None:
    store = Store(s3_bucket.url, tmp_path / "cache", s3_bucket.options)
    with urlopen(Request(f"{s3_bucket.endpoint}/{s3_bucket.name}", method="DELETE"), timeout=10):
        pass
    for name, call in calls(store, folder).items():
        assert (name, refusal_of(call).reason) == (name, "STORE_BUCKET_MISSING")
    assert refusal_of(store.probe).reason == "STORE_BUCKET_MISSING"


def options_of(endpoint: str, **client: object) -> dict[str, Any]:
    return {
        "endpoint": endpoint,
        "region": "us-east-1",
        "access_key_id": "a",
        "secret_access_key": "b",
        "client_options": {"allow_http": True, **client},
        "retry_config": {"max_retries": 0},
    }


def test_a_store_that_cannot_be_reached_says_why(folder: Path, tmp_path: Path, faulty: FaultyS3) -> None:
    port = free_port()
    encrypted = faulty.bucket.endpoint.replace("http", "https")
    reasons = {
        f"http://127.0.0.1:{port}": f"nobody listens at http://127.0.0.1:{port} (ANNEAL_STORE__URL",
        "http://no-such-host.invalid:9000": "the name no-such-host.invalid is not known",
        encrypted: f"{encrypted} does not speak TLS",
    }
    for endpoint, text in reasons.items():
        store = Store("s3://b", tmp_path / "cache", options_of(endpoint))
        for name, call in calls(store, folder).items():
            refused = refusal_of(call)
            assert (name, refused.reason) == (name, "STORE_UNREACHABLE")
            assert text in str(refused)


def test_a_certificate_that_is_not_trusted_is_named(s3_bucket: Bucket, tmp_path: Path) -> None:
    authority = Authority()
    with FaultyS3(s3_bucket, authority.sign().write(tmp_path)).running() as server:
        store = Store(server.bucket.url, tmp_path / "cache", server.options)
        refused = refusal_of(store.probe)
        assert refused.reason == "STORE_UNREACHABLE"
        assert "is not trusted: give its authority as client_options.root_certificate" in str(refused)
        trusting = {**server.options, "client_options": {"root_certificate": authority.pem.decode()}}
        Store(server.bucket.url, tmp_path / "cache", trusting).probe()


def test_a_server_that_does_not_answer_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = Store("s3://b", tmp_path / "cache", options_of(endpoint, timeout="200ms"))
        refused = refusal_of(store.probe)
    assert refused.reason == "STORE_UNREACHABLE"
    assert f"no answer in time at {endpoint}" in str(refused)


def test_a_process_without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    options = options_of("http://127.0.0.1:1") | {"metadata_endpoint": f"http://127.0.0.1:{free_port()}"}
    del options["access_key_id"], options["secret_access_key"]
    refused = refusal_of(Store("s3://b", tmp_path / "cache", options).probe)
    assert refused.reason == "STORE_ACCESS_DENIED"
    assert "there are no credentials for the store s3://b" in str(refused)


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    """In a process of its own, as a user for whom a mode means something."""
    script = (
        "import os, sys; from pathlib import Path\n"
        "from anneal.kit.store import Store; from anneal.kit.errors import Refusal\n"
        "store = Store(sys.argv[1], Path(sys.argv[2]))\n"
        "os.chmod(sys.argv[1], 0o500); os.getuid() or os.setuid(65534)\n"
        "for call in (store.probe, lambda: store.put_bytes(b'x'), lambda: store.put_record('a', 1)):\n"
        "    try: call()\n"
        "    except Refusal as refused: print(refused.reason, str(refused).count(chr(10)))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "store"), str(tmp_path / "cache")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["STORE_ACCESS_DENIED 0"] * 3


def test_a_folder_that_is_none(tmp_path: Path, folder: Path) -> None:
    store = Store(str(tmp_path / "store"), tmp_path / "cache")
    (tmp_path / "store").rmdir()
    (tmp_path / "store").write_text("a file")
    for name, call in calls(store, folder).items():
        assert (name, refusal_of(call).reason) == (name, "STORE_FAILED")


def test_a_full_disk_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from obstore.exceptions import GenericError

    def put(*_: object, **__: object) -> None:
        raise GenericError(f"Generic LocalFileSystem error: Unable to copy data (os error {errno.ENOSPC})")

    store = Store(str(tmp_path / "store"), tmp_path / "cache")
    monkeypatch.setattr("obstore.put", put)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as refused:
        store.put_bytes(b"x")
    assert full_disk(refused.value) is not None
    store.probe()
