from __future__ import annotations

import json

import pytest

from anneal.v1 import dataset_pb2
from anneal.v1 import registry_service_pb2 as pb
from tests.contract.registry.world import PROJECT, World, reason, row, violation
from tests.fixtures.old_rows import old_rows, old_version

pytestmark = pytest.mark.asyncio(loop_scope="session")

REMOVED = dataset_pb2.DATASET_PART_REMOVED
QUARANTINED = dataset_pb2.DATASET_PART_QUARANTINED
NEWEST = f"{PROJECT}/datasets/qa/versions/latest"


async def read_all(world: World, request: pb.ReadRowsRequest) -> tuple[list[dataset_pb2.Row], int]:
    """Every row of a request, and the number of pages it took."""
    rows: list[dataset_pb2.Row] = []
    pages = 0
    while pages == 0 or request.page_token:
        answer = await world.stub.ReadRows(request)
        rows += answer.rows
        request.page_token, pages = answer.next_page_token, pages + 1
    return rows, pages


async def test_rows_are_read_in_stored_order_over_files_and_pages(world: World) -> None:
    texts = [f"t{i:02}" for i in range(25)]
    version = await world.dataset_version(world.manifest(texts, test=["x", "y"], shard_rows=10))
    rows, pages = await read_all(world, pb.ReadRowsRequest(dataset_version=version.name, page_size=4))
    assert pages == 7
    # Files come in the order in which they were written: whole ones first, then what was left of each split.
    assert sorted(r.id for r in rows) == sorted(row(text)["id"] for text in [*texts, "x", "y"])
    train, _ = await read_all(world, pb.ReadRowsRequest(dataset_version=version.name, split="train", page_size=7))
    assert [json.loads(r.json)["messages"][0]["content"] for r in train] == texts
    assert {r.split for r in train} == {"train"}
    test, pages = await read_all(world, pb.ReadRowsRequest(dataset_version=version.name, split="test", page_size=2))
    assert ([r.split for r in test], pages) == (["test", "test"], 1)


async def test_a_row_is_the_whole_row(world: World) -> None:
    version = await world.dataset_version(world.manifest(["one"]))
    answer = await world.stub.ReadRows(pb.ReadRowsRequest(dataset_version=version.name))
    wanted = {**row("one"), "scores": {"quality": 0.5}}
    assert json.loads(answer.rows[0].json) == wanted


async def test_rows_of_before_are_read_and_found(world: World) -> None:
    digest = old_version(world.store, 9)
    given = dataset_pb2.DatasetVersion(digest=digest, kind=dataset_pb2.DATASET_KIND_CONVERSATION)
    version = await world.stub.CreateDatasetVersion(
        pb.CreateDatasetVersionRequest(parent=f"{PROJECT}/datasets/before", dataset_version=given)
    )
    rows = (await world.stub.ReadRows(pb.ReadRowsRequest(dataset_version=version.name))).rows
    assert [json.loads(one.json)["messages"] for one in rows] == [one["messages"] for one in old_rows(9)[:8]]
    found = await world.stub.LookupRow(pb.LookupRowRequest(parent=PROJECT, row_id=old_rows(9)[3]["id"]))
    assert [place.dataset_version for place in found.places] == [version.name]


async def test_a_preference_is_read_with_the_side_it_has(world: World) -> None:
    version = await world.dataset_version(world.preferences("q"), "pairs")
    (one,) = (await world.stub.ReadRows(pb.ReadRowsRequest(dataset_version=version.name))).rows
    row = json.loads(one.json)
    assert row["messages"] == [{"role": "user", "content": "q"}]
    assert (row["chosen"], row["rejected"]) == (None, [{"role": "assistant", "content": "No idea."}])


async def test_removed_rows_carry_their_reasons(world: World) -> None:
    version = await world.dataset_version(world.manifest(["a"], removed=["a"], broken=3))
    answer = await world.stub.ReadRows(pb.ReadRowsRequest(dataset_version=version.name, part=REMOVED))
    gone = json.loads(answer.rows[0].json)
    assert (answer.rows[0].split, answer.rows[0].id) == ("", row("a")["id"])
    assert (gone["removed_step"], gone["removed_reason"]) == ("exact_duplicates", "exact_duplicate")
    assert gone["removed_duplicate_of"] == row("a")["id"]


async def test_quarantined_rows_carry_their_place(world: World) -> None:
    version = await world.dataset_version(world.manifest(["a"], broken=3))
    request = pb.ReadRowsRequest(dataset_version=version.name, part=QUARANTINED, page_size=2)
    rows, pages = await read_all(world, request)
    assert [json.loads(r.json)["byte_offset"] for r in rows] == [0, 1, 2]
    assert ({r.id for r in rows}, pages) == ({""}, 2)


async def test_an_empty_part_is_an_empty_page(world: World) -> None:
    version = await world.dataset_version()
    answer = await world.stub.ReadRows(pb.ReadRowsRequest(dataset_version=version.name, part=REMOVED))
    assert (list(answer.rows), answer.next_page_token) == ([], "")


async def test_a_page_ends_where_a_message_would_grow_too_long(world: World) -> None:
    texts = [f"{i}" + "x" * 700_000 for i in range(5)]
    version = await world.dataset_version(world.documents(*texts), "docs")
    request = pb.ReadRowsRequest(dataset_version=version.name, page_size=1000)
    answer = await world.stub.ReadRows(request)
    assert 1 <= len(answer.rows) < 5
    assert answer.ByteSize() < 4 << 20
    rows, _ = await read_all(world, request)
    assert [json.loads(r.json)["text"] for r in rows] == texts


async def test_reading_rows_is_refused(world: World) -> None:
    await world.dataset_version(world.manifest(["a", "b"]))
    gone = pb.ReadRowsRequest(dataset_version=f"{PROJECT}/datasets/qa/versions/{'0' * 12}")
    assert await reason(world.stub.ReadRows(gone)) == ("MISSING", "DATASET_VERSION_MISSING")
    assert await violation(world.stub.ReadRows(pb.ReadRowsRequest(dataset_version="qa"))) == "dataset_version"
    splitless = pb.ReadRowsRequest(dataset_version=NEWEST, part=REMOVED, split="train")
    assert await violation(world.stub.ReadRows(splitless)) == "split"
    unknown = pb.ReadRowsRequest(dataset_version=NEWEST, part=9)  # type: ignore[arg-type]
    assert await violation(world.stub.ReadRows(unknown)) == "part"


async def test_a_token_stays_with_its_version_part_and_split(world: World) -> None:
    await world.dataset_version(world.manifest(["a", "b"]))
    token = (await world.stub.ReadRows(pb.ReadRowsRequest(dataset_version=NEWEST, page_size=1))).next_page_token
    same = pb.ReadRowsRequest(dataset_version=NEWEST, page_token=token)
    assert (await world.stub.ReadRows(same)).rows[0].id == row("b")["id"]
    other = pb.ReadRowsRequest(dataset_version=NEWEST, page_token=token, split="train")
    assert await violation(world.stub.ReadRows(other)) == "page_token"
    await world.dataset_version(world.manifest(["c"]))
    assert await violation(world.stub.ReadRows(same)) == "page_token"


# -- one row ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [12, 64])
async def test_a_row_is_found_by_its_id(world: World, digits: int) -> None:
    data, _, adapter = await world.settled()
    request = pb.LookupRowRequest(parent=PROJECT, row_id=row("one")["id"][:digits])
    places = (await world.stub.LookupRow(request)).places
    assert [(p.dataset_version, p.part, p.row.split) for p in places] == [
        (data.name, dataset_pb2.DATASET_PART_ROWS, "train")
    ]
    assert json.loads(places[0].row.json)["id"] == row("one")["id"]
    assert list(places[0].adapter_versions) == [adapter.name]


async def test_an_adapter_never_saw_a_test_row(world: World) -> None:
    await world.settled()
    places = (await world.stub.LookupRow(pb.LookupRowRequest(parent=PROJECT, row_id=row("three")["id"]))).places
    assert [(p.row.split, list(p.adapter_versions)) for p in places] == [("test", [])]


async def test_every_place_of_a_row_newest_version_first(world: World) -> None:
    first = await world.dataset_version(world.manifest(["a", "b"]))
    second = await world.dataset_version(world.manifest(["b"], removed=["a"]))
    request = pb.LookupRowRequest(parent=PROJECT, row_id=row("a")["id"])
    places = (await world.stub.LookupRow(request)).places
    assert [(p.dataset_version, p.part) for p in places] == [
        (second.name, REMOVED),
        (first.name, dataset_pb2.DATASET_PART_ROWS),
    ]
    request.dataset_version = first.name
    assert [p.dataset_version for p in (await world.stub.LookupRow(request)).places] == [first.name]


async def test_a_row_among_many_files(world: World) -> None:
    texts = [f"t{i}" for i in range(30)]
    await world.dataset_version(world.manifest(texts, shard_rows=7))
    places = (await world.stub.LookupRow(pb.LookupRowRequest(parent=PROJECT, row_id=row("t29")["id"]))).places
    assert json.loads(places[0].row.json)["messages"][0]["content"] == "t29"


async def test_looking_up_is_refused(world: World) -> None:
    version = await world.dataset_version()
    absent = pb.LookupRowRequest(parent=PROJECT, row_id="0" * 12)
    assert await reason(world.stub.LookupRow(absent)) == ("MISSING", "ROW_MISSING")
    elsewhere = pb.LookupRowRequest(parent="projects/other", row_id=row("one")["id"])
    assert await reason(world.stub.LookupRow(elsewhere)) == ("MISSING", "ROW_MISSING")
    for row_id in ("0" * 11, "0" * 65, "ABCDEFABCDEF"):
        call = world.stub.LookupRow(pb.LookupRowRequest(parent=PROJECT, row_id=row_id))
        assert await violation(call) == "row_id"
    gone = version.name[:-12] + "0" * 12
    nowhere = pb.LookupRowRequest(parent=PROJECT, row_id="0" * 12, dataset_version=gone)
    assert await reason(world.stub.LookupRow(nowhere)) == ("MISSING", "DATASET_VERSION_MISSING")


# -- lineage ---------------------------------------------------------------------------------------------------------


async def edges(
    world: World, name: str, direction: pb.LineageDirection.ValueType = pb.LINEAGE_DIRECTION_UPSTREAM
) -> list[tuple[str, str, str]]:
    lineage = await world.stub.GetLineage(pb.GetLineageRequest(name=name, direction=direction))
    return [(getattr(e, "from"), e.relation, e.to) for e in lineage.edges]


async def test_lineage_leads_from_a_deployment_to_its_documents_and_back(world: World) -> None:
    docs = await world.dataset_version(world.documents("a"), "docs")
    data = await world.dataset_version(world.manifest(["a"], test=["b"]), parents=[docs.name])
    model = await world.model()
    benchmark = await world.benchmark(data)
    adapter = await world.publish(world.new_adapter(model, data))
    evaluation = await world.evaluate(adapter)
    deployment = await world.deploy(adapter)
    up = await edges(world, deployment.name)
    assert set(up) == {
        (adapter.name, "deployed", deployment.name),
        (evaluation.name, "admitted_by", deployment.name),
        (adapter.name, "evaluated", evaluation.name),
        (benchmark.name, "measured_on", evaluation.name),
        (data.name, "trained_on", adapter.name),
        (model.name, "based_on", adapter.name),
        (data.name, "derived_from", benchmark.name),
        (docs.name, "derived_from", data.name),
    }
    assert {made for _, _, made in up[:2]} == {deployment.name}  # nearest first
    down = await edges(world, docs.name, pb.LINEAGE_DIRECTION_DOWNSTREAM)
    assert set(down) == set(up) - {(model.name, "based_on", adapter.name)}
    assert await edges(world, docs.name) == []
    assert await edges(world, f"{PROJECT}/adapters/bot/versions/latest", pb.LINEAGE_DIRECTION_UNSPECIFIED) == [
        (data.name, "trained_on", adapter.name),
        (model.name, "based_on", adapter.name),
        (docs.name, "derived_from", data.name),
    ]


async def test_lineage_forgets_a_deployment_that_is_deleted(world: World) -> None:
    settled = await world.settled()
    await world.evaluate(settled.adapter)
    made = await world.deploy(settled.adapter)
    await world.stub.DeleteDeployment(pb.DeleteDeploymentRequest(name=made.name))
    down = await edges(world, settled.adapter.name, pb.LINEAGE_DIRECTION_DOWNSTREAM)
    assert {relation for _, relation, _ in down} == {"evaluated"}


async def test_lineage_is_refused(world: World) -> None:
    await world.dataset_version()
    gone = pb.GetLineageRequest(name=f"{PROJECT}/deployments/none")
    assert await reason(world.stub.GetLineage(gone)) == ("MISSING", "DEPLOYMENT_MISSING")
    family = pb.GetLineageRequest(name=f"{PROJECT}/datasets/qa")
    assert await violation(world.stub.GetLineage(family)) == "name"
    nowhere = pb.GetLineageRequest(name=NEWEST, direction=9)  # type: ignore[arg-type]
    assert await violation(world.stub.GetLineage(nowhere)) == "direction"
