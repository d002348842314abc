from __future__ import annotations

from datetime import UTC, datetime

import pytest

from anneal.kit.errors import Invalid
from anneal.registry import codec
from anneal.registry.domain.errors import exists, missing
from anneal.registry.domain.gate import Verdict
from anneal.registry.domain.resources import Edge, Kind, Relation
from anneal.v1 import dataset_pb2, deployment_pb2, evaluation_pb2
from anneal.v1.registry_service_pb2 import CreateDatasetRequest, CreateModelRequest

TIME = datetime(2026, 11, 21, 1, 2, 3, 456_789, UTC)
RULE = evaluation_pb2.PolicyRule(benchmark="projects/p/benchmarks/b", metric="exact_match", min_gain=0.0)


def deployment() -> deployment_pb2.Deployment:
    message = deployment_pb2.Deployment(
        name="projects/p/deployments/d",
        adapter_version="projects/p/adapters/a/versions/aaaaaaaaaaaa",
        policy=evaluation_pb2.Policy(rules=[RULE]),
        evaluation="projects/p/evaluations/e",
        canary=deployment_pb2.Canary(
            adapter_version="projects/p/adapters/a/versions/bbbbbbbbbbbb",
            percent=10,
            evaluation="projects/p/evaluations/e",
        ),
    )
    return message


def test_a_record_says_again_what_it_was_made_of() -> None:
    record = codec.record_of(Kind.DEPLOYMENT, deployment(), TIME)
    seen = codec.encode(record)
    assert seen.create_time.ToDatetime(tzinfo=UTC) == TIME
    assert seen.etag == record.etag
    seen.ClearField("etag")
    seen.ClearField("create_time")
    assert seen == deployment()


def test_edges_are_read_from_the_resource_each_once() -> None:
    record = codec.record_of(Kind.DEPLOYMENT, deployment(), TIME)
    name = record.name
    assert set(record.edges) == {
        Edge("projects/p/adapters/a/versions/aaaaaaaaaaaa", name, Relation.DEPLOYED),
        Edge("projects/p/adapters/a/versions/bbbbbbbbbbbb", name, Relation.DEPLOYED),
        Edge("projects/p/evaluations/e", name, Relation.ADMITTED_BY),
    }
    assert len(record.edges) == 3


def test_a_note_describes_the_whole_record() -> None:
    record = codec.record_of(Kind.DEPLOYMENT, deployment(), TIME, revision=7)
    assert codec.record_of_note(codec.note_of(record)) == record


@pytest.mark.parametrize("change", [{"format": "other"}, {"resource": {"no_such_field": 1}}, {"kind": "castle"}])
def test_another_note_is_refused(change: dict[str, object]) -> None:
    note = codec.note_of(codec.record_of(Kind.DEPLOYMENT, deployment(), TIME))
    with pytest.raises(ValueError, match=r"record|field|Kind"):
        codec.record_of_note({**note, **change})


def test_an_etag_changes_with_every_field() -> None:
    etags = {codec.record_of(Kind.DEPLOYMENT, deployment(), TIME).etag}
    changed = deployment()
    changed.canary.percent = 11
    etags.add(codec.record_of(Kind.DEPLOYMENT, changed, TIME).etag)
    changed.update_time.FromDatetime(TIME)
    etags.add(codec.record_of(Kind.DEPLOYMENT, changed, TIME).etag)
    assert len(etags) == 3


def content_of(request: CreateDatasetRequest) -> str:
    key = codec.request_key(request)
    assert key is not None
    return key.content


def test_a_request_is_its_content_without_id_and_dry_run() -> None:
    first = CreateDatasetRequest(parent="projects/p", dataset_id="d", request_id="1")
    dry = CreateDatasetRequest(parent="projects/p", dataset_id="d", request_id="2", validate_only=True)
    other = CreateDatasetRequest(
        parent="projects/p", dataset_id="d", request_id="1", dataset=dataset_pb2.Dataset(description="x")
    )
    assert content_of(first) == content_of(dry)
    assert content_of(first) != content_of(other)


def test_equal_bytes_of_two_messages_are_two_requests() -> None:
    one = codec.request_key(CreateDatasetRequest(parent="projects/p", dataset_id="d", request_id="1"))
    two = codec.request_key(CreateModelRequest(parent="projects/p", model_id="d", request_id="1"))
    assert one is not None
    assert two is not None
    assert one.content != two.content


def test_no_id_is_no_key_and_a_long_one_is_refused() -> None:
    assert codec.request_key(CreateDatasetRequest(parent="projects/p")) is None
    with pytest.raises(Invalid):
        codec.request_key(CreateDatasetRequest(parent="projects/p", request_id="x" * 129))


def test_a_rule_is_bounded_when_a_bound_is_there_even_if_it_is_zero() -> None:
    assert codec.demand_of(RULE).is_bounded
    assert not codec.demand_of(evaluation_pb2.PolicyRule(benchmark="b", metric="m")).is_bounded


def test_every_value_of_the_contracts_enums_is_known() -> None:
    for value in evaluation_pb2.Verdict.values():
        assert codec.verdict_of(value, "verdict") in Verdict
    with pytest.raises(Invalid):
        codec.verdict_of(99, "verdict")  # type: ignore[arg-type]
    with pytest.raises(Invalid):
        codec.row_kind_of(dataset_pb2.DATASET_KIND_UNSPECIFIED, "kind")


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_its_own_refusals(kind: Kind) -> None:
    assert missing(kind, "n").reason == f"{kind.upper()}_MISSING"
    is_version = kind in (Kind.DATASET_VERSION, Kind.ADAPTER_VERSION)
    assert exists(kind, "n").reason == ("VERSION_ID_TAKEN" if is_version else f"{kind.upper()}_EXISTS")
