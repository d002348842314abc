"""The tests' cluster, with a service whose jobs run on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from anneal.kit.options import StoreOptions
from tests.fixtures.kubernetes_world import World, cluster_world
from tests.fixtures.s3 import Bucket


@pytest.fixture
def world(tmp_path: Path, s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with cluster_world(tmp_path, StoreOptions(url=s3_bucket.url, options=s3_bucket.options), monkeypatch) as made:
        yield made
