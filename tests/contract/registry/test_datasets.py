from __future__ import annotations

import pytest

from anneal.kit.digests import canonical_json
from anneal.v1 import dataset_pb2
from anneal.v1 import registry_service_pb2 as pb
from tests.contract.registry.world import (
    ABSENT,
    CONVERSATION,
    DOCUMENT,
    PROJECT,
    World,
    new_id,
    reason,
    refused,
    violation,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

FAMILY = f"{PROJECT}/datasets/qa"


def founding(dataset_id: str = "qa", **more: object) -> pb.CreateDatasetRequest:
    dataset = dataset_pb2.Dataset(name="-", kind=CONVERSATION, description="questions")
    return pb.CreateDatasetRequest(parent=PROJECT, dataset_id=dataset_id, dataset=dataset, **more)  # type: ignore[arg-type]


async def test_a_dataset_is_created_and_read(world: World) -> None:
    made = await world.stub.CreateDataset(founding())
    assert (made.name, made.kind, made.description) == (FAMILY, CONVERSATION, "questions")
    assert made.create_time.seconds
    assert made.etag
    assert await world.stub.GetDataset(pb.GetDatasetRequest(name=FAMILY)) == made


async def test_a_name_is_given_once(world: World) -> None:
    await world.stub.CreateDataset(founding())
    assert await reason(world.stub.CreateDataset(founding())) == ("EXISTS", "DATASET_EXISTS")


async def test_a_dataset_that_is_not_there(world: World) -> None:
    assert await reason(world.stub.GetDataset(pb.GetDatasetRequest(name=FAMILY))) == ("MISSING", "DATASET_MISSING")
    assert await violation(world.stub.GetDataset(pb.GetDatasetRequest(name="datasets/qa"))) == "name"


async def test_ids_and_parents_follow_their_patterns(world: World) -> None:
    assert await violation(world.stub.CreateDataset(founding("Not An Id"))) == "dataset_id"
    assert await violation(world.stub.CreateDataset(founding("x" * 64))) == "dataset_id"
    request = founding()
    request.parent = "projects/../etc"
    assert await violation(world.stub.CreateDataset(request)) == "parent"
    assert await violation(world.stub.ListDatasets(pb.ListDatasetsRequest(parent="p"))) == "parent"


async def test_the_same_request_twice_is_one_dataset(world: World) -> None:
    request = founding(request_id=new_id())
    first = await world.stub.CreateDataset(request)
    await world.dataset_version()  # what happens in between does not change the first answer
    assert await world.stub.CreateDataset(request) == first


async def test_a_request_id_with_other_content_is_refused(world: World) -> None:
    request = founding(request_id=new_id())
    await world.stub.CreateDataset(request)
    request.dataset.description = "other"
    assert await reason(world.stub.CreateDataset(request)) == ("EXISTS", "REQUEST_ID_REUSED")
    model = pb.CreateAdapterRequest(parent=PROJECT, adapter_id="a", request_id=request.request_id)
    model.adapter.name = "-"
    assert await reason(world.stub.CreateAdapter(model)) == ("EXISTS", "REQUEST_ID_REUSED")


async def test_a_dry_run_checks_and_changes_nothing(world: World) -> None:
    request = founding(request_id=new_id(), validate_only=True)
    assert (await world.stub.CreateDataset(request)).name == FAMILY
    assert await reason(world.stub.GetDataset(pb.GetDatasetRequest(name=FAMILY))) == ("MISSING", "DATASET_MISSING")
    assert not list(world.store.records())
    await world.stub.CreateDataset(founding())
    assert await reason(world.stub.CreateDataset(founding(validate_only=True))) == ("EXISTS", "DATASET_EXISTS")


async def test_lists_are_paged_newest_first(world: World) -> None:
    for i in range(5):
        await world.stub.CreateDataset(founding(f"d{i}"))
    seen, token, pages = [], "", 0
    while pages == 0 or token:
        page = await world.stub.ListDatasets(pb.ListDatasetsRequest(parent=PROJECT, page_size=2, page_token=token))
        seen += [dataset.name.rsplit("/", 1)[1] for dataset in page.datasets]
        token, pages = page.next_page_token, pages + 1
    assert (seen, pages) == (["d4", "d3", "d2", "d1", "d0"], 3)


async def test_a_page_stays_where_it_was_when_something_new_comes(world: World) -> None:
    for i in range(3):
        await world.stub.CreateDataset(founding(f"d{i}"))
    first = await world.stub.ListDatasets(pb.ListDatasetsRequest(parent=PROJECT, page_size=2))
    await world.stub.CreateDataset(founding("d3"))
    request = pb.ListDatasetsRequest(parent=PROJECT, page_size=2, page_token=first.next_page_token)
    second = await world.stub.ListDatasets(request)
    assert [dataset.name for dataset in second.datasets] == [f"{PROJECT}/datasets/d0"]
    assert second.next_page_token == ""


async def test_a_token_fits_only_its_own_list(world: World) -> None:
    for i in range(2):
        await world.stub.CreateDataset(founding(f"d{i}"))
    token = (await world.stub.ListDatasets(pb.ListDatasetsRequest(parent=PROJECT, page_size=1))).next_page_token
    other = pb.ListDatasetsRequest(parent="projects/other", page_token=token)
    assert await violation(world.stub.ListDatasets(other)) == "page_token"
    models = pb.ListModelsRequest(parent=PROJECT, page_token=token)
    assert await violation(world.stub.ListModels(models)) == "page_token"
    assert (
        await violation(world.stub.ListDatasets(pb.ListDatasetsRequest(parent=PROJECT, page_token="?"))) == "page_token"
    )
    assert await violation(world.stub.ListDatasets(pb.ListDatasetsRequest(parent=PROJECT, page_size=-1))) == "page_size"


async def test_another_project_sees_nothing(world: World) -> None:
    await world.stub.CreateDataset(founding())
    page = await world.stub.ListDatasets(pb.ListDatasetsRequest(parent="projects/other"))
    assert not page.datasets


# -- versions --------------------------------------------------------------------------------------------------------


async def test_a_version_says_what_its_manifest_counts(world: World) -> None:
    manifest = world.manifest(["a", "b", "c"], test=["d"], removed=["a"], broken=2)
    made = await world.dataset_version(
        manifest, operation=f"{PROJECT}/operations/o", recipe_json="{}", row_count=999, input_row_count=1
    )
    assert made.name == f"{FAMILY}/versions/{manifest.digest[7:19]}"
    assert dict(made.split_row_counts) == {"train": 3, "test": 1}
    assert (made.input_row_count, made.row_count, made.quarantined_row_count) == (7, 4, 2)
    assert [(r.step, r.reason, r.row_count) for r in made.removals] == [("exact_duplicates", "exact_duplicate", 1)]
    assert list(made.decontaminated_against) == [ABSENT]
    assert (made.operation, made.recipe_json) == (f"{PROJECT}/operations/o", "{}")
    assert await world.stub.GetDatasetVersion(pb.GetDatasetVersionRequest(name=made.name)) == made


async def test_the_first_version_founds_the_dataset(world: World) -> None:
    made = await world.dataset_version()
    family = await world.stub.GetDataset(pb.GetDatasetRequest(name=FAMILY))
    assert (family.kind, family.latest_version) == (CONVERSATION, made.name)


async def test_latest_is_the_version_created_last(world: World) -> None:
    first = await world.dataset_version(world.manifest(["a"]))
    before = await world.stub.GetDataset(pb.GetDatasetRequest(name=FAMILY))
    second = await world.dataset_version(world.manifest(["b"]))
    after = await world.stub.GetDataset(pb.GetDatasetRequest(name=FAMILY))
    assert (before.latest_version, after.latest_version) == (first.name, second.name)
    assert before.etag != after.etag
    latest = pb.GetDatasetVersionRequest(name=f"{FAMILY}/versions/latest")
    assert await world.stub.GetDatasetVersion(latest) == second
    listed = await world.stub.ListDatasets(pb.ListDatasetsRequest(parent=PROJECT))
    assert listed.datasets[0].latest_version == second.name


async def test_latest_of_nothing_is_missing(world: World) -> None:
    request = pb.GetDatasetVersionRequest(name=f"{FAMILY}/versions/latest")
    assert await reason(world.stub.GetDatasetVersion(request)) == ("MISSING", "DATASET_VERSION_MISSING")


async def test_the_same_content_again_is_the_same_version(world: World) -> None:
    first = await world.dataset_version(operation=f"{PROJECT}/operations/o1")
    assert await world.dataset_version(operation=f"{PROJECT}/operations/o2") == first
    page = await world.stub.ListDatasetVersions(pb.ListDatasetVersionsRequest(parent=FAMILY))
    assert list(page.dataset_versions) == [first]


async def test_versions_are_paged_newest_first(world: World) -> None:
    made = [await world.dataset_version(world.manifest([f"t{i}"])) for i in range(3)]
    first = await world.stub.ListDatasetVersions(pb.ListDatasetVersionsRequest(parent=FAMILY, page_size=2))
    rest = pb.ListDatasetVersionsRequest(parent=FAMILY, page_size=2, page_token=first.next_page_token)
    second = await world.stub.ListDatasetVersions(rest)
    assert [v.name for v in [*first.dataset_versions, *second.dataset_versions]] == [v.name for v in reversed(made)]
    assert await violation(world.stub.ListDatasetVersions(pb.ListDatasetVersionsRequest(parent=PROJECT))) == "parent"


async def test_a_manifest_that_is_not_there(world: World) -> None:
    given = dataset_pb2.DatasetVersion(digest=ABSENT, kind=CONVERSATION)
    request = pb.CreateDatasetVersionRequest(parent=FAMILY, dataset_version=given)
    assert await reason(world.stub.CreateDatasetVersion(request)) == ("NOT_YET", "MANIFEST_MISSING")
    given.digest = world.store.put_bytes(b"no manifest")
    request = pb.CreateDatasetVersionRequest(parent=FAMILY, dataset_version=given)
    refusal = await refused(world.stub.CreateDatasetVersion(request))
    assert (refusal.reason, refusal.facts["cause"]) == ("MANIFEST_MISSING", "NOT_A_MANIFEST")
    given.digest = "sha256:short"
    request = pb.CreateDatasetVersionRequest(parent=FAMILY, dataset_version=given)
    assert await violation(world.stub.CreateDatasetVersion(request)) == "dataset_version.digest"


async def test_a_manifest_that_does_not_balance(world: World) -> None:
    value = {**world.manifest().to_json(), "rows_in": 3}
    given = dataset_pb2.DatasetVersion(digest=world.store.put_bytes(canonical_json(value)), kind=CONVERSATION)
    request = pb.CreateDatasetVersionRequest(parent=FAMILY, dataset_version=given)
    refusal = await refused(world.stub.CreateDatasetVersion(request))
    assert (refusal.reason, refusal.facts["cause"]) == ("MANIFEST_MISSING", "MANIFEST_UNBALANCED")


async def test_a_manifest_whose_files_are_not_there(world: World) -> None:
    value = world.manifest().to_json()
    value["shards"][0]["digest"] = ABSENT
    given = dataset_pb2.DatasetVersion(digest=world.store.put_bytes(canonical_json(value)), kind=CONVERSATION)
    request = pb.CreateDatasetVersionRequest(parent=FAMILY, dataset_version=given)
    refusal = await refused(world.stub.CreateDatasetVersion(request))
    assert (refusal.reason, refusal.facts["file"]) == ("MANIFEST_MISSING", ABSENT)


async def test_the_kind_is_the_manifests_and_the_familys(world: World) -> None:
    documents = world.documents("a")
    given = dataset_pb2.DatasetVersion(digest=documents.digest, kind=CONVERSATION)
    request = pb.CreateDatasetVersionRequest(parent=FAMILY, dataset_version=given)
    assert await violation(world.stub.CreateDatasetVersion(request)) == "dataset_version.kind"
    await world.stub.CreateDataset(founding())
    given.kind = DOCUMENT
    request = pb.CreateDatasetVersionRequest(parent=FAMILY, dataset_version=given)
    assert await violation(world.stub.CreateDatasetVersion(request)) == "dataset_version.kind"


async def test_parents_are_named_exactly_and_exist(world: World) -> None:
    parent = await world.dataset_version(world.documents("a"), "docs")
    made = await world.dataset_version(parents=[f"{PROJECT}/datasets/docs/versions/latest", parent.name])
    assert list(made.parents) == [parent.name]
    gone = world.dataset_version(world.manifest(["x"]), parents=[f"{PROJECT}/datasets/docs/versions/{'0' * 12}"])
    assert await reason(gone) == ("MISSING", "DATASET_VERSION_MISSING")
    wrong = world.dataset_version(world.manifest(["y"]), parents=["docs"])
    assert await violation(wrong) == "dataset_version.parents[0]"


async def test_parents_the_caller_kept_quiet_about_are_read_from_the_manifest(world: World) -> None:
    parent = await world.dataset_version(world.documents("a"), "docs")
    made = await world.dataset_version(world.manifest(parents=[parent.digest, ABSENT]))
    assert list(made.parents) == [parent.name]


async def test_a_dry_run_of_a_version_founds_nothing(world: World) -> None:
    given = dataset_pb2.DatasetVersion(digest=world.manifest().digest, kind=CONVERSATION)
    request = pb.CreateDatasetVersionRequest(parent=FAMILY, dataset_version=given, validate_only=True)
    assert (await world.stub.CreateDatasetVersion(request)).row_count == 2
    assert await reason(world.stub.GetDataset(pb.GetDatasetRequest(name=FAMILY))) == ("MISSING", "DATASET_MISSING")


async def test_the_same_request_twice_is_one_version(world: World) -> None:
    given = dataset_pb2.DatasetVersion(digest=world.manifest().digest, kind=CONVERSATION)
    request = pb.CreateDatasetVersionRequest(parent=FAMILY, dataset_version=given, request_id=new_id())
    first = await world.stub.CreateDatasetVersion(request)
    assert await world.stub.CreateDatasetVersion(request) == first
    request.dataset_version.recipe_json = "{}"
    assert await reason(world.stub.CreateDatasetVersion(request)) == ("EXISTS", "REQUEST_ID_REUSED")
