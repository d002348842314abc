"""Datasets and their versions."""

from __future__ import annotations

from datetime import datetime

from anneal.kit.digests import hex_of
from anneal.kit.manifests import Manifest
from anneal.kit.names import check_id, parse, project_of
from anneal.registry import codec
from anneal.registry.adapters.sql.transactions import Writer
from anneal.registry.domain.publishing import check_kind
from anneal.registry.domain.resources import Kind
from anneal.registry.usecases.house import Draft, House, create, resolve_all
from anneal.v1 import dataset_pb2 as pb
from anneal.v1.registry_service_pb2 import CreateDatasetRequest, CreateDatasetVersionRequest


async def create_dataset(house: House, request: CreateDatasetRequest) -> pb.Dataset:
    """Found a family of dataset versions."""
    parse(request.parent, "project", "parent")
    name = f"{request.parent}/datasets/{check_id(request.dataset_id, 'dataset_id')}"
    codec.row_kind_of(request.dataset.kind, "dataset.kind")

    async def draft(_: Writer, now: datetime) -> Draft:
        dataset = pb.Dataset(name=name, kind=request.dataset.kind, description=request.dataset.description)
        return Draft(record=codec.record_of(Kind.DATASET, dataset, now))

    answer: pb.Dataset = await create(house, request, draft)
    return answer


async def create_dataset_version(house: House, request: CreateDatasetVersionRequest) -> pb.DatasetVersion:
    """Publish a dataset version. What it holds is read from its manifest, never taken from the caller.

    Raises:
        ManifestMissing: the manifest, or a file of it, is not in the store, or it does not balance.
        DatasetVersionMissing: a parent does not exist.
        Invalid: it is of another kind than it says, or than its family.
    """
    parse(request.parent, "dataset", "parent")
    given = request.dataset_version
    kind = codec.row_kind_of(given.kind, "dataset_version.kind")
    name = f"{request.parent}/versions/{hex_of(given.digest, 'dataset_version.digest')[:12]}"
    manifest = await house.shelf.manifest(given.digest)

    async def draft(tx: Writer, now: datetime) -> Draft:
        family = await tx.find(Kind.DATASET, request.parent)
        family_kind = "" if family is None else str(family.facts["row_kind"])
        check_kind(kind, family_kind, manifest.kind, "dataset_version.kind")
        parents = await resolve_all(tx, Kind.DATASET_VERSION, list(given.parents), "dataset_version.parents")
        # Lineage is what the manifest says, also where the caller did not say it.
        made_from = await tx.by_digest(project_of(name), manifest.parents)
        named = {str((await tx.get(Kind.DATASET_VERSION, parent)).facts["digest"]) for parent in parents}
        parents += [parent for digest, parent in made_from.items() if digest not in named and parent != name]
        version = pb.DatasetVersion(
            name=name,
            digest=given.digest,
            kind=given.kind,
            parents=parents,
            operation=given.operation,
            recipe_json=given.recipe_json,
        )
        fill_counts(version, manifest)
        founded = pb.Dataset(name=request.parent, kind=given.kind)
        return Draft(
            record=codec.record_of(Kind.DATASET_VERSION, version, now),
            family=codec.record_of(Kind.DATASET, founded, now),
        )

    answer: pb.DatasetVersion = await create(house, request, draft)
    return answer


def fill_counts(version: pb.DatasetVersion, manifest: Manifest) -> None:
    """Write into a version what its manifest counts."""
    version.split_row_counts.update(manifest.splits)
    version.input_row_count = manifest.rows_in
    version.row_count = manifest.rows_out
    version.quarantined_row_count = manifest.quarantined
    for (step, reason), rows in sorted(manifest.removed.items()):
        version.removals.add(step=step, reason=reason, row_count=rows)
    version.decontaminated_against.extend(manifest.decontaminated_against)
