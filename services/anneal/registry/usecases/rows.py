"""Rows of dataset versions, and lineage."""

from __future__ import annotations

import re

from anneal.kit.errors import Invalid
from anneal.kit.manifests import Part
from anneal.kit.names import parse, parse_any
from anneal.kit.pages import page
from anneal.registry import codec
from anneal.registry.adapters.shelf import FoundRow, read_cursor
from anneal.registry.adapters.sql.transactions import Reader
from anneal.registry.domain.errors import RowMissing
from anneal.registry.domain.lineage import Direction, Walk
from anneal.registry.domain.resources import Kind, Relation
from anneal.registry.usecases.house import House
from anneal.v1 import dataset_pb2
from anneal.v1 import registry_service_pb2 as pb

PARTS: dict[dataset_pb2.DatasetPart.ValueType, Part] = {
    dataset_pb2.DATASET_PART_UNSPECIFIED: "rows",
    dataset_pb2.DATASET_PART_ROWS: "rows",
    dataset_pb2.DATASET_PART_REMOVED: "removed",
    dataset_pb2.DATASET_PART_QUARANTINED: "quarantined",
}
_PART_NUMBERS: dict[Part, dataset_pb2.DatasetPart.ValueType] = {
    "rows": dataset_pb2.DATASET_PART_ROWS,
    "removed": dataset_pb2.DATASET_PART_REMOVED,
    "quarantined": dataset_pb2.DATASET_PART_QUARANTINED,
}
_ROW_ID = re.compile(r"[0-9a-f]{12,64}")
_TRAINING_SPLIT = "train"
_WALKED = (
    Kind.DATASET_VERSION,
    Kind.MODEL,
    Kind.ADAPTER_VERSION,
    Kind.BENCHMARK,
    Kind.EVALUATION,
    Kind.DEPLOYMENT,
)


async def read_rows(house: House, request: pb.ReadRowsRequest) -> pb.ReadRowsResponse:
    """A page of rows in stored order.

    Raises:
        DatasetVersionMissing: there is no such version.
        Invalid: a part the contract does not know, or a token of another list.
    """
    parse(request.dataset_version, "dataset_version", "dataset_version")
    if request.part not in PARTS:
        raise Invalid.field("part", f"{request.part} is no part of a dataset")
    part = PARTS[request.part]
    if request.split and part != "rows":
        raise Invalid.field("split", f"rows that were {part} have no split")
    async with house.catalog.read() as tx:
        version = await tx.get(Kind.DATASET_VERSION, request.dataset_version)
    digest = str(version.facts["digest"])
    # By digest: a token got from `latest` stays with the version it was got from, or is refused.
    asked = page(request.page_size, request.page_token, {"rows": digest, "part": part, "split": request.split})
    cursor = read_cursor(asked.after)
    rows, after = await house.shelf.page(digest, part, request.split or None, asked.size, cursor)
    token = "" if after is None else asked.token(after)
    return pb.ReadRowsResponse(rows=[_row(row) for row in rows], next_page_token=token)


async def lookup_row(house: House, request: pb.LookupRowRequest) -> pb.LookupRowResponse:
    """Every place of a row, newest dataset version first, with the adapters that learnt from it.

    Raises:
        RowMissing: it is nowhere.
        DatasetVersionMissing: the version to look in does not exist.
        Invalid: the id is not 12 to 64 hex digits.
    """
    parse(request.parent, "project", "parent")
    if not _ROW_ID.fullmatch(request.row_id):
        raise Invalid.field("row_id", f"{request.row_id[:80]!r} is not 12 to 64 lower-case hex digits")
    async with house.catalog.read() as tx:
        if request.dataset_version:
            parse(request.dataset_version, "dataset_version", "dataset_version")
            versions = [await tx.get(Kind.DATASET_VERSION, request.dataset_version)]
        else:
            versions = await tx.all_of(Kind.DATASET_VERSION, request.parent)
    found = await house.shelf.search([str(version.facts["digest"]) for version in versions], request.row_id)
    answer = pb.LookupRowResponse()
    async with house.catalog.read() as tx:
        for version in versions:
            for row in found.get(str(version.facts["digest"]), ()):
                answer.places.add(
                    dataset_version=version.name,
                    part=_PART_NUMBERS[row.part],
                    row=_row(row),
                    adapter_versions=await _learners(tx, version.name, row),
                )
    if not answer.places:
        raise RowMissing(f"no dataset version looked in holds a row {request.row_id}", row_id=request.row_id)
    return answer


async def _learners(tx: Reader, version: str, row: FoundRow) -> list[str]:
    if row.part != "rows" or row.split != _TRAINING_SPLIT:
        return []
    edges = await tx.edges([version], Direction.DOWNSTREAM)
    return sorted(e.made for e in edges if e.relation is Relation.TRAINED_ON and "/adapters/" in e.made)


async def get_lineage(house: House, request: pb.GetLineageRequest) -> pb.Lineage:
    """Every edge that can be reached, nearest first.

    Raises:
        Missing: there is no such resource.
        Invalid: the name follows no pattern, or the direction is none.
    """
    if request.direction not in codec.DIRECTIONS:
        raise Invalid.field("direction", f"{request.direction} is no direction")
    kind, _ = parse_any(request.name, [kind.value for kind in _WALKED])
    async with house.catalog.read() as tx:
        start = await tx.get(Kind(kind), request.name)
        walk = Walk(start.name, codec.DIRECTIONS[request.direction])
        while walk.frontier:
            walk.advance(await tx.edges(walk.frontier, walk.direction))
    lineage = pb.Lineage()
    for edge in walk.edges:
        # `from` is a word of Python.
        lineage.edges.add(**{"from": edge.source, "to": edge.made, "relation": edge.relation.value})
    return lineage


def _row(row: FoundRow) -> dataset_pb2.Row:
    return dataset_pb2.Row(id=row.id, split=row.split, json=row.json)
