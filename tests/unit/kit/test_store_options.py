"""Options of a store are known by name before its library sees them, and the table of names is the library's own."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore.store
import pytest

from anneal.kit.settings import Misconfigured
from anneal.kit.store import Store
from anneal.kit.store_options import AZURE, BACKOFF, CLIENT, GCS, RETRY, S3, Provider, checked_options

URLS = {S3: "s3://bucket", GCS: "gs://bucket", AZURE: "az://container"}
NEEDED: Mapping[str, dict[str, Any]] = {
    "access_key_id": {"secret_access_key": "x"},
    "aws_access_key_id": {"secret_access_key": "x"},
    "secret_access_key": {"access_key_id": "x"},
    "aws_secret_access_key": {"access_key_id": "x"},
}
VALUES: Mapping[str, Any] = {
    "checksum_algorithm": "sha256",
    "conditional_put": "etag",
    "copy_if_not_exists": "multipart",
    "server_side_encryption": "AES256",
    "s3_express": False,
    "credential_type": "auto",
    "sas_key": "sv=1&sig=2",
    "sas_token": "sv=1&sig=2",
    "encryption_key": base64.b64encode(bytes(32)).decode(),
    "endpoint": "https://store.example",
    "max_retries": 3,
    "base": 2,
    "default_headers": {"x-team": "a"},
    "pool_max_idle_per_host": 4,
    "http2_max_frame_size": 20_000,
}


def value_of(name: str, credentials: Path) -> Any:
    """A value that the library takes for an option."""
    if name.endswith("use_fabric_endpoint"):
        return True
    for end, value in VALUES.items():
        if name.endswith(end):
            return value
    if name.endswith("service_account_key"):
        return credentials.read_text()
    if name.endswith(("service_account", "service_account_path")):
        return str(credentials)
    if name.endswith("application_credentials"):
        user = credentials.with_name("user.json")
        user.write_text(
            json.dumps({"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"})
        )
        return str(user)
    if name.endswith(("timeout", "interval", "backoff")):
        return "10s"
    return True if name.startswith(("allow", "http", "use", "skip", "disable", "imds", "virtual", "random")) else "true"


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service account's file, with a key that can sign."""
    key = subprocess.run(["openssl", "genrsa", "2048"], check=True, capture_output=True, text=True).stdout
    file = tmp_path_factory.mktemp("gcs") / "account.json"
    account = {
        "private_key": key,
        "private_key_id": "1",
        "client_email": "a@b.example",
        "gcs_base_url": "https://x.example",
    }
    file.write_text(json.dumps({**account, "disable_oauth": False}))
    return file


def opens(provider: Provider, options: Mapping[str, Any]) -> object:
    """What the library itself answers to options that our check has let through."""
    url = URLS[provider]
    account = {"account_name": "account"} if provider is AZURE and "name" not in " ".join(options) else {}
    return obstore.store.from_url(url, **checked_options(url, {**account, **options}))


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        pytest.param(provider, name, id=f"{provider.title} {name}")
        for provider in URLS
        for name in sorted(provider.known)
    ],
)
def test_every_name_of_the_table_opens(provider: Provider, name: str, credentials: Path) -> None:
    assert opens(provider, {name: value_of(name, credentials), **NEEDED.get(name, {})}) is not None


@pytest.mark.parametrize("provider", URLS, ids=lambda provider: provider.title)
def test_every_name_of_a_group_opens(provider: Provider, credentials: Path) -> None:
    for name in CLIENT - {"root_certificate", "proxy_url", "proxy_ca_certificate"}:
        assert opens(provider, {"client_options": {name: value_of(name, credentials)}}) is not None, name
    assert opens(provider, {"client_options": {"proxy_url": "http://proxy.example:3128"}}) is not None
    for name in RETRY - {"backoff"}:
        assert opens(provider, {"retry_config": {name: value_of(name, credentials)}}) is not None, name
    for name in BACKOFF:
        assert opens(provider, {"retry_config": {"backoff": {name: value_of(name, credentials)}}}) is not None, name


def documented(file: str, kind: str) -> set[str]:
    """The names that the library's own types document."""
    text = (Path(obstore.store.__file__).parent / "_store" / file).read_text()
    body = re.split(r"\nclass ", text.split(f"class {kind}(", 1)[1])[0]
    return set(re.findall(r"^    ([a-z][a-z_0-9]*):", body, re.MULTILINE))


@pytest.mark.parametrize(
    ("known", "file", "kind", "refused"),
    [
        # The library documents these two and does not take them.
        (S3.known | S3.in_url, "_aws.pyi", "S3Config", {"aws_endpoint_url_s3", "sts_endpoint"}),
        (GCS.known | GCS.in_url, "_gcs.pyi", "GCSConfig", set()),
        (AZURE.known | AZURE.in_url, "_azure.pyi", "AzureConfig", set()),
        (CLIENT, "_client.pyi", "ClientConfig", set()),
        (RETRY, "_retry.pyi", "RetryConfig", set()),
        (BACKOFF, "_retry.pyi", "BackoffConfig", set()),
    ],
)
def test_what_the_library_documents_is_in_the_table(known: set[str], file: str, kind: str, refused: set[str]) -> None:
    assert documented(file, kind) - known == refused


REFUSED = """
import json, sys
from obstore.store import from_url
refused = []
for url, name in json.loads(sys.argv[1]):
    try:
        from_url(url, **({"account_name": "a"} if url.startswith("az") else {}), **{name: "true"})
    except BaseException as error:
        refused.append((url, name))
print(json.dumps(refused))
"""


def test_what_is_not_in_the_table_the_library_refuses() -> None:
    """In a process of its own: the library writes a trace to stderr where it panics."""
    names = set().union(*(provider.known for provider in URLS), CLIENT, BACKOFF, {"retry_timeout", "prefix", "bucket"})
    names |= {f"{provider.prefix}{name}" for provider in URLS for name in CLIENT}
    wanted = [(url, name) for provider, url in URLS.items() for name in sorted(names - provider.known)]
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, json.dumps(wanted)], check=True, capture_output=True, text=True
    )
    assert [tuple(pair) for pair in json.loads(done.stdout)] == wanted


@pytest.mark.parametrize(
    ("url", "options", "text"),
    [
        (
            "s3://b",
            {"aws_allow_http": "true"},
            "ANNEAL_STORE__OPTIONS: aws_allow_http belongs into client_options: write "
            '{"client_options": {"allow_http": ...}}',
        ),
        (
            "az://b",
            {"max_retries": 3},
            "ANNEAL_STORE__OPTIONS: max_retries belongs into retry_config: write "
            '{"retry_config": {"max_retries": ...}}',
        ),
        (
            "s3://b",
            {"aws_endpiont": "https://x"},
            "ANNEAL_STORE__OPTIONS: S3 has no option aws_endpiont; did you mean aws_endpoint or aws_endpoint_url?",
        ),
        ("gs://b", {"bucket": "c"}, "ANNEAL_STORE__OPTIONS: bucket is part of the URL, here gs://b: leave it out"),
        (
            "s3://b",
            {"client_options": {"allow_htp": True}},
            "ANNEAL_STORE__OPTIONS: client_options has no option allow_htp; did you mean allow_http?",
        ),
        (
            "s3://b",
            {"retry_config": {"max_retry": 1}},
            "ANNEAL_STORE__OPTIONS: retry_config has no option max_retry; did you mean max_retries?",
        ),
        (
            "s3://b",
            {"retry_config": {"retry_timeout": "soon"}},
            "ANNEAL_STORE__OPTIONS: retry_config.retry_timeout is no time such as 10s, 500ms or 2m",
        ),
        (
            "s3://b",
            {"endpoint": "http://minio:9000"},
            "ANNEAL_STORE__OPTIONS: http://minio:9000 is not encrypted: set "
            '{"client_options": {"allow_http": true}} to allow it',
        ),
        (
            "gopher://b",
            {},
            "ANNEAL_STORE__URL: gopher:// is no kind of object store: use s3://, gs://, az:// or the path of a folder",
        ),
        ("folder", {"region": "x"}, "ANNEAL_STORE__OPTIONS: folder is a folder and has no options: leave out region"),
    ],
)
def test_the_error_names_the_option_and_the_right_one(
    url: str, options: dict[str, Any], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Misconfigured) as refused:
        Store(url, tmp_path / "cache", options)
    assert str(refused.value) == text


def test_an_option_that_is_like_none_lists_them_all() -> None:
    with pytest.raises(
        Misconfigured, match="Google Cloud Storage has no option zzz; there are application_credentials, "
    ):
        checked_options("gs://b", {"zzz": 1})


def test_times_and_numbers_from_json_reach_the_library() -> None:
    options = {
        "endpoint": "http://127.0.0.1:9000",
        "client_options": {"allow_http": True, "pool_max_idle_per_host": 4, "timeout": "30s"},
        "retry_config": {
            "max_retries": 2,
            "retry_timeout": "1m",
            "backoff": {"init_backoff": 0.5, "max_backoff": "2s"},
        },
    }
    checked = checked_options("s3://b", options)
    assert checked["retry_config"]["retry_timeout"] == timedelta(minutes=1)
    assert checked["retry_config"]["backoff"]["init_backoff"] == timedelta(milliseconds=500)
    assert checked["client_options"]["pool_max_idle_per_host"] == "4"
    assert opens(S3, options) is not None


def test_plain_http_may_be_allowed_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    assert checked_options("s3://b", {"endpoint": "http://x:1"})
    with pytest.raises(Misconfigured, match="is not encrypted"):  # the library then no longer reads the environment
        checked_options("s3://b", {"endpoint": "http://x:1", "client_options": {"timeout": "1s"}})


def test_a_value_that_the_library_refuses_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        Misconfigured, match=r"ANNEAL_STORE: s3://b cannot be opened with the options skip_signature: .*parse"
    ):
        Store("s3://b", tmp_path, {"skip_signature": "perhaps"})


def test_a_panic_of_the_library_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def panic(*_: object, **__: object) -> None:
        raise type("PanicException", (BaseException,), {})("called `Option::unwrap()` on a `None` value\nstack")

    monkeypatch.setattr("anneal.kit.store.from_url", panic)
    with pytest.raises(Misconfigured, match=r"cannot be opened with the options none: called .* on a `None` value$"):
        Store("s3://b", tmp_path)
