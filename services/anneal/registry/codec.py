"""Between the contract's messages and the registry's records."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from anneal.kit.digests import canonical_json, digest_of_bytes
from anneal.kit.errors import Invalid
from anneal.kit.names import project_of
from anneal.registry.adapters.sql.transactions import RequestKey
from anneal.registry.domain.gate import Demand, Verdict
from anneal.registry.domain.lineage import Direction
from anneal.registry.domain.publishing import Parity
from anneal.registry.domain.resources import Edge, Fact, Kind, Record, Relation, microseconds
from anneal.v1 import adapter_pb2, dataset_pb2, deployment_pb2, evaluation_pb2, model_pb2, registry_service_pb2

NOTE_FORMAT = "anneal-record/1"
MAX_REQUEST_ID = 128

MESSAGES: dict[Kind, type[Message]] = {
    Kind.DATASET: dataset_pb2.Dataset,
    Kind.DATASET_VERSION: dataset_pb2.DatasetVersion,
    Kind.MODEL: model_pb2.Model,
    Kind.ADAPTER: adapter_pb2.Adapter,
    Kind.ADAPTER_VERSION: adapter_pb2.AdapterVersion,
    Kind.BENCHMARK: evaluation_pb2.Benchmark,
    Kind.EVALUATION: evaluation_pb2.Evaluation,
    Kind.DEPLOYMENT: deployment_pb2.Deployment,
}

ROW_KINDS: dict[dataset_pb2.DatasetKind.ValueType, str] = {
    dataset_pb2.DATASET_KIND_UNSPECIFIED: "",
    dataset_pb2.DATASET_KIND_DOCUMENT: "document",
    dataset_pb2.DATASET_KIND_CONVERSATION: "conversation",
    dataset_pb2.DATASET_KIND_PREFERENCE: "preference",
}

_STATED = [dataset_pb2.DatasetKind.Name(kind) for kind, name in ROW_KINDS.items() if name]

VERDICTS: dict[evaluation_pb2.Verdict.ValueType, Verdict] = {
    evaluation_pb2.VERDICT_UNSPECIFIED: Verdict.UNSPECIFIED,
    evaluation_pb2.VERDICT_GO: Verdict.GO,
    evaluation_pb2.VERDICT_NO_GO: Verdict.NO_GO,
    evaluation_pb2.VERDICT_INCONCLUSIVE: Verdict.INCONCLUSIVE,
}

DIRECTIONS: dict[registry_service_pb2.LineageDirection.ValueType, Direction] = {
    registry_service_pb2.LINEAGE_DIRECTION_UNSPECIFIED: Direction.UPSTREAM,
    registry_service_pb2.LINEAGE_DIRECTION_UPSTREAM: Direction.UPSTREAM,
    registry_service_pb2.LINEAGE_DIRECTION_DOWNSTREAM: Direction.DOWNSTREAM,
}


# -- records ---------------------------------------------------------------------------------------------------------


def encode(record: Record) -> Any:
    """The resource a record holds, as readers see it."""
    message: Any = MESSAGES[record.kind].FromString(record.body)
    if record.kind in (Kind.DATASET, Kind.ADAPTER):
        message.latest_version = record.latest_version
    if record.kind in (Kind.DATASET, Kind.ADAPTER, Kind.MODEL, Kind.DEPLOYMENT):
        message.etag = record.etag
    return message


def record_of(kind: Kind, message: Any, create_time: datetime, revision: int | None = None) -> Record:
    """The record of a complete resource; its facts and edges are read from the resource itself.

    Args:
        kind: what it is.
        message: the resource with its name.
        create_time: when it was created, with a time zone; written into the resource.
        revision: microseconds since 1970 of the last change; that of the creation when not given.
    """
    message.create_time.FromDatetime(create_time)
    return Record(
        kind=kind,
        name=message.name,
        create_time=create_time,
        revision=microseconds(create_time) if revision is None else revision,
        body=message.SerializeToString(deterministic=True),
        facts=_facts(kind, message),
        edges=_edges(kind, message),
    )


def _facts(kind: Kind, message: Any) -> Mapping[str, Fact]:
    match kind:
        case Kind.DATASET:
            return {"row_kind": ROW_KINDS[message.kind]}
        case Kind.DATASET_VERSION | Kind.MODEL:
            return {"digest": message.digest}
        case Kind.ADAPTER:
            return {}
        case Kind.ADAPTER_VERSION:
            fields: tuple[str, ...] = ("digest", "base_model", "base_model_digest")
            return {field: getattr(message, field) for field in fields}
        case Kind.BENCHMARK:
            return {"dataset_version": message.dataset_version}
        case Kind.EVALUATION:
            fields = ("target", "target_digest", "base_model_digest", "policy_digest")
            return {**{field: getattr(message, field) for field in fields}, "verdict": VERDICTS[message.verdict].value}
        case Kind.DEPLOYMENT:
            return {
                "adapter_version": message.adapter_version,
                "canary_adapter_version": message.canary.adapter_version or None,
            }


def _edges(kind: Kind, message: Any) -> tuple[Edge, ...]:
    sources: list[tuple[str, Relation]] = []
    match kind:
        case Kind.DATASET_VERSION:
            sources += [(name, Relation.DERIVED_FROM) for name in message.parents]
        case Kind.MODEL:
            sources += [(name, Relation.TRAINED_ON) for name in message.dataset_versions]
        case Kind.ADAPTER_VERSION:
            sources += [(name, Relation.TRAINED_ON) for name in message.dataset_versions]
            sources.append((message.base_model, Relation.BASED_ON))
        case Kind.BENCHMARK:
            sources.append((message.dataset_version, Relation.DERIVED_FROM))
        case Kind.EVALUATION:
            sources.append((message.target, Relation.EVALUATED))
            sources += [(name, Relation.MEASURED_ON) for name in benchmarks_of(message)]
            sources.append((message.baseline, Relation.COMPARED_WITH))
        case Kind.DEPLOYMENT:
            sources += [(name, Relation.DEPLOYED) for name in (message.adapter_version, message.canary.adapter_version)]
            sources += [(name, Relation.ADMITTED_BY) for name in (message.evaluation, message.canary.evaluation)]
        case Kind.DATASET | Kind.ADAPTER:
            pass
    return tuple(dict.fromkeys(Edge(source, message.name, relation) for source, relation in sources if source))


def benchmarks_of(evaluation: evaluation_pb2.Evaluation) -> list[str]:
    """Every benchmark an evaluation speaks of, each once."""
    measured = [result.benchmark for result in evaluation.results]
    return list(dict.fromkeys(measured + [rule.benchmark for rule in evaluation.policy.rules]))


def note_of(record: Record, *, deleted: bool = False) -> dict[str, Any]:
    """The self-description of a record, for the object store: everything a rebuild needs."""
    message = MESSAGES[record.kind].FromString(record.body)
    return {
        "format": NOTE_FORMAT,
        "kind": record.kind.value,
        "name": record.name,
        "revision": record.revision,
        "deleted": deleted,
        "resource": json_format.MessageToDict(message, preserving_proto_field_name=True),
    }


def record_of_note(note: Mapping[str, Any]) -> Record:
    """The record a self-description describes.

    Raises:
        ValueError: it is something else.
    """
    if note.get("format") != NOTE_FORMAT:
        raise ValueError(f"not a record of format {NOTE_FORMAT}")
    kind = Kind(note["kind"])
    message: Any = MESSAGES[kind]()
    try:
        json_format.ParseDict(note["resource"], message)
    except json_format.ParseError as error:
        raise ValueError(str(error)) from error
    created = message.create_time
    return record_of(kind, message, created.ToDatetime(tzinfo=UTC), int(note["revision"]))


# -- requests --------------------------------------------------------------------------------------------------------


def request_key(request: Any) -> RequestKey | None:
    """What makes a creating request the same request; None when it carries no id.

    Raises:
        Invalid: the id is too long.
    """
    if not request.request_id:
        return None
    if len(request.request_id) > MAX_REQUEST_ID:
        raise Invalid.field("request_id", f"is longer than {MAX_REQUEST_ID} characters")
    content = type(request)()
    content.CopyFrom(request)
    content.ClearField("request_id")
    content.ClearField("validate_only")
    data = content.DESCRIPTOR.full_name.encode() + b"\0" + content.SerializeToString(deterministic=True)
    return RequestKey(project=project_of(request.parent), request_id=request.request_id, content=digest_of_bytes(data))


# -- values ----------------------------------------------------------------------------------------------------------


_MEASURES: tuple[Any, ...] = (
    "rms_logprob_difference",
    "rms_tolerance",
    "effect_difference",
    "effect_tolerance",
    "effect_resolution",
)


def parity_of(version: adapter_pb2.AdapterVersion) -> Parity | None:
    """The certificate of an adapter version; None when there is none."""
    if not version.HasField("parity"):
        return None
    given = version.parity
    return Parity(
        passed=given.passed,
        sample_count=given.sample_count,
        token_count=given.token_count,
        token_ids_equal=given.token_ids_equal,
        max_logprob_difference=given.max_logprob_difference,
        tolerance=given.tolerance,
        dtype=given.dtype,
        **{field: getattr(given, field) for field in _MEASURES if given.HasField(field)},
    )


def demand_of(rule: evaluation_pb2.PolicyRule) -> Demand:
    """A rule of a policy as the gate sees it."""
    value = json_format.MessageToDict(rule, preserving_proto_field_name=True)
    bounds = {"min_value", "max_value", "min_gain", "max_loss"} & value.keys()
    return Demand(text=canonical_json(value).decode(), is_bounded=bool(bounds))


def verdict_of(value: evaluation_pb2.Verdict.ValueType, field: str) -> Verdict:
    """A verdict the contract knows.

    Raises:
        Invalid: it is a number without a name.
    """
    if value not in VERDICTS:
        raise Invalid.field(field, f"{value} is no verdict")
    return VERDICTS[value]


def row_kind_of(value: dataset_pb2.DatasetKind.ValueType, field: str) -> str:
    """The kind of rows, as manifests name it.

    Raises:
        Invalid: it is not stated, or a number without a name.
    """
    if not ROW_KINDS.get(value):
        raise Invalid.field(field, f"must be one of {', '.join(_STATED)}")
    return ROW_KINDS[value]
