"""Which URIs may be read: the allowed ones, never the system's own store, and no spelling gets around that."""

from __future__ import annotations

import itertools

import pytest
from pydantic import ValidationError

from anneal.kit.errors import Invalid
from anneal.training.adapters.model_uris import check_uri
from anneal.training.errors import ModelUriNotAllowed
from anneal.training.settings import TrainingOptions

ALL = TrainingOptions().model_uris


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/", "gs://b.u-c_k/models/Llama 3", "az://models/x/y.z"])
def test_a_folder_of_an_object_store_may_be_read(uri: str) -> None:
    assert check_uri(uri, ALL, "/data/store") == uri.rstrip("/")


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "",
            "s3://",
            "s3:///x",
            "bucket/x",
            "/models",
            "file:///models",
            "http://host/x",
            "https://host/x",
            "S3://b/x",
        ),
        *("s3a://bucket/x", "abfss://c@a.dfs.core.windows.net/x", "memory:///x"),
        *(
            "s3://key:secret@bucket/x",
            "s3://user@bucket/x",
            "s3://bucket:80/x",
            "az://c/x?sv=1&sig=secret",
            "s3://b/x#y",
        ),
        *("s3://bucket/../x", "s3://bucket/a/../../x", "s3://bucket/./x", "s3://bucket/%2e%2e/x", "s3://bucket//x"),
        *("s3://bucket/a\\b", "s3://bucket/a\nb", "s3://bucket/x//"),
    ],
)
def test_what_is_none_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_uri(uri, ALL, "/data/store")
    assert refused.value.violations[0][0] == "uri"
    assert "secret" not in str(refused.value)


def test_only_what_is_below_an_allowed_prefix_may_be_read() -> None:
    allowed = ["s3://one/models", "gs://"]
    for uri in ("s3://one/models", "s3://one/models/a", "gs://any/thing"):
        assert check_uri(uri, allowed, "/data/store") == uri
    for uri in ("s3://one", "s3://one/models-2", "s3://one/other", "s3://two/models", "az://one/models"):
        with pytest.raises(ModelUriNotAllowed, match=r"training\.model_uris"):
            check_uri(uri, allowed, "/data/store")
    with pytest.raises(ModelUriNotAllowed):
        check_uri("s3://one/models", [], "/data/store")


STORES = {
    "s3://own": ["s3://own", "s3a://own/", "https://s3.eu-west-1.amazonaws.com/own", "https://own.s3.amazonaws.com"],
    "s3://own/a/b": ["s3://own/a/b", "s3://own/a/b/", "https://id.r2.cloudflarestorage.com/own/a/b"],
    "gs://own/a": ["gs://own/a"],
    "az://own/a": [
        *("az://own/a", "azure://own/a", "adl://own/a", "abfs://own/a", "abfss://own@acc.dfs.core.windows.net/a"),
        "https://acc.blob.core.windows.net/own/a",
    ],
}


@pytest.mark.parametrize(("place", "store"), [(place, store) for place, stores in STORES.items() for store in stores])
def test_the_systems_own_store_is_never_read(place: str, store: str) -> None:
    scheme, bucket, *prefix = place.replace("://", "/").split("/")
    above = ["/".join(prefix[:count]) for count in range(len(prefix) + 1)]
    for path in [*above, "/".join([*prefix, "blobs"]), "/".join([*prefix, "blobs", "ab"])]:
        with pytest.raises(ModelUriNotAllowed, match="own store"):
            check_uri(f"{scheme}://{bucket}/{path}".rstrip("/"), ALL, store)
    others = [f"{scheme}://{bucket}-2/x", f"{scheme}://models/{'/'.join(prefix)}".rstrip("/")]
    others += [f"{scheme}://{bucket}/{'/'.join(prefix)}-2"] if prefix else []
    for uri in others:
        assert check_uri(uri, ALL, store) == uri


def test_settings_take_prefixes_of_object_stores_only() -> None:
    for prefix in ("file://", "/models", "http://host", "s3"):
        with pytest.raises(ValidationError, match="begins with none of"):
            TrainingOptions(model_uris=(prefix,))
    pairs = itertools.product(("s3", "gs", "az"), ("", "bucket/x"))
    assert len(TrainingOptions(model_uris=tuple(f"{a}://{b}" for a, b in pairs)).model_uris) == 6
