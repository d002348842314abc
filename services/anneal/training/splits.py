"""Brings a split of dataset versions to this machine as Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anneal.kit.datasets import DatasetReader
from anneal.kit.digests import hex_of
from anneal.kit.store import Store


def fetch_split(store: Store, manifests: Sequence[str], split: str, folder: Path) -> list[Path]:
    """Download what is not there yet; files are named by their digest and verified.

    Raises:
        BlobMissing: the store lacks a manifest or a shard.
    """
    found = []
    for manifest in manifests:
        for shard in DatasetReader(store, manifest).shards(split):
            path = folder / f"{hex_of(shard.digest)}.parquet"
            if not path.exists():
                store.download(shard.digest, path)
            found.append(path)
    return found
