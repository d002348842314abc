"""The body of the job that publishes a dataset version on the Hub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from anneal.ingestion.adapters.hub import check_hub_id
from anneal.ingestion.adapters.hub_repository import push
from anneal.ingestion.domain.dataset_card import Card, is_license
from anneal.kit.datasets import DatasetReader
from anneal.kit.digests import canonical_json
from anneal.kit.jobs.context import JobContext
from anneal.kit.manifests import Shard
from anneal.v1 import dataset_pb2
from anneal.v1 import ingestion_service_pb2 as pb
from anneal.v1.registry_service_pb2 import GetDatasetVersionRequest
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub


def push_dataset(ctx: JobContext, request: pb.PushDatasetRequest) -> pb.PushedDataset:
    """Write the rows as Parquet that everybody reads, and publish them with a card.

    Raises:
        Refusal: the Hub does not take it.
    """
    version = _version(ctx, request.dataset_version)
    reader = DatasetReader(ctx.store, version.digest)
    name, branch = check_hub_id(request.hub_id)
    files: dict[str, Path] = {}
    by_split: dict[str, list[str]] = {}
    licenses: Counter[str] = Counter()
    shards = reader.shards()
    for split in sorted({shard.split for shard in shards}):
        mine = [shard for shard in shards if shard.split == split]
        for number, shard in enumerate(mine):
            ctx.check()
            ctx.progress(len(files), len(shards), "files", f"writing split {split}")
            path = f"data/{split}-{number:05d}-of-{len(mine):05d}.parquet"
            files[path] = _write(reader, shard, ctx.scratch / "push" / path, licenses)
            by_split.setdefault(split, []).append(path)
    card = _card(version, reader, by_split, licenses, request.license)
    ctx.progress(len(files), len(shards), "files", f"sending to {request.hub_id}")
    title = f"Push {version.name}"
    pushed = push(name, branch, files, card.text(), title=title, public=request.public)
    return pb.PushedDataset(
        hub_id=f"{name}@{pushed.commit}",
        url=pushed.url,
        dataset_version=version.name,
        row_count=reader.manifest.rows_out,
        file_count=len(files),
    )


def _version(ctx: JobContext, name: str) -> dataset_pb2.DatasetVersion:
    """The version; what `latest` meant first it means in every attempt."""
    pinned = ctx.scratch / "version"
    wanted = pinned.read_text() if pinned.exists() else name
    stub: Any = RegistryServiceStub(ctx.channel("registry"))
    found: dataset_pb2.DatasetVersion = stub.GetDatasetVersion(GetDatasetVersionRequest(name=wanted))
    pinned.write_text(found.name)
    return found


def _write(reader: DatasetReader, shard: Shard, path: Path, licenses: Counter[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tables = [_public(pa.Table.from_batches([batch])) for batch in reader.shard_batches(shard)]
    table = pa.concat_tables(tables)
    if "license" in table.column_names:
        licenses.update(table.column("license").to_pylist())
    pq.write_table(table, path, compression="zstd")
    return path


def _public(table: pa.Table) -> pa.Table:
    """Rows in types that the `datasets` library has: it knows no maps, so that they become JSON text."""
    for index, column in enumerate(table.schema):
        if pa.types.is_map(column.type):
            texts = [canonical_json(dict(value or ())).decode() for value in table.column(index).to_pylist()]
            table = table.set_column(index, pa.field(column.name, pa.string()), pa.array(texts, pa.string()))
    return table


def _card(
    version: dataset_pb2.DatasetVersion,
    reader: DatasetReader,
    files: dict[str, list[str]],
    licenses: Counter[str],
    license: str,
) -> Card:
    manifest = reader.manifest
    named = next(iter(licenses)).lower() if len(licenses) == 1 else ""
    return Card(
        name=version.name,
        digest=version.digest,
        kind=manifest.kind,
        splits=manifest.splits,
        files=files,
        license=license or (named if is_license(named) else ""),
        row_licenses=licenses,
        rows_in=manifest.rows_in,
        removed=manifest.removed,
        quarantined=manifest.quarantined,
        parents=manifest.parents,
        origins=sorted(_origins(manifest.steps)),
        decontaminated_against=manifest.decontaminated_against,
    )


def _origins(steps: Any) -> Iterator[str]:
    yield from {str(step["hub_id"]) for step in steps if step.get("hub_id")}
