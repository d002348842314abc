"""Reading a model over the S3 protocol: gone on with after an attempt that ended, refused when an object changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import from_url

from anneal.training.adapters import model_uris
from anneal.training.adapters.model_uris import ModelUri
from anneal.training.errors import ModelUriChanged
from tests.fixtures.s3 import Bucket


@pytest.fixture
def bucket(s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket that this process reaches by its environment."""
    for name, value in {**s3_bucket.environment, "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    return s3_bucket


class Interrupted(Exception):
    """The attempt ends here."""


def test_what_an_attempt_before_fetched_is_not_fetched_again(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_uris, "READ_BYTES", 1000)
    store = from_url(f"s3://{bucket.name}/m", **bucket.options)
    held = {"config.json": b"{}", "a.safetensors": bytes(range(250)) * 10, "b.safetensors": b"b" * 2500}
    for name, data in held.items():
        obstore.put(store, name, data)
    place = ModelUri(f"s3://{bucket.name}/m")
    found, others = place.find()
    assert ([(f.name, f.size_bytes) for f in found], others) == ([(n, len(held[n])) for n in sorted(held)], [])

    counts: list[int] = []

    def stop(count: int) -> None:
        counts.append(count)
        if sum(counts) >= 3500:
            raise Interrupted

    with pytest.raises(Interrupted):
        place.fetch(found, tmp_path, stop)
    asked: list[tuple[str, Any]] = []
    real = obstore.get

    def get(store: Any, path: str, *, options: Any) -> Any:
        asked.append((path, options["range"]))
        return real(store, path, options=options)

    monkeypatch.setattr(obstore, "get", get)
    folder = place.fetch(found, tmp_path, counts.append)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == held
    assert asked == [("b.safetensors", (1000, 2000)), ("b.safetensors", (2000, 2500)), ("config.json", (0, 2))]


def test_an_object_that_changes_while_it_is_read_is_refused(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_uris, "READ_BYTES", 1000)
    store = from_url(f"s3://{bucket.name}/m", **bucket.options)
    obstore.put(store, "a.safetensors", b"a" * 2500)
    place = ModelUri(f"s3://{bucket.name}/m")
    found, _ = place.find()

    def change(count: int) -> None:
        if count == 1000:
            obstore.put(store, "a.safetensors", b"b" * 2500)

    with pytest.raises(ModelUriChanged, match=r"a\.safetensors changed while it was read") as refused:
        place.fetch(found, tmp_path, change)
    assert refused.value.reason == "MODEL_URI_CHANGED"
    obstore.put(store, "a.safetensors", b"c" * 1500)
    with pytest.raises(ModelUriChanged):
        place.fetch(found, tmp_path, lambda _: None)
    again, _ = place.find()
    folder = place.fetch(again, tmp_path, lambda _: None)
    assert (folder / "a.safetensors").read_bytes() == b"c" * 1500, "nothing of the object before is in it"
