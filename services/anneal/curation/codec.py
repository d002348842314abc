"""Orders from the wire, checked field by field, and overviews onto it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from google.longrunning import operations_pb2
from google.protobuf import json_format, struct_pb2
from google.protobuf.message import Message
from pydantic import TypeAdapter, ValidationError

from anneal.curation.domain.encoders import EncoderSpec, Endpoint, Hashing
from anneal.curation.domain.pipelines import PIPELINES
from anneal.curation.domain.steps import SPLITTERS, STEPS, Judging, Scoring, Step
from anneal.curation.domain.steps.base import WrongSetting
from anneal.curation.domain.steps.decontaminate import ALL, Decontaminate
from anneal.curation.domain.steps.llm_jury import LlmJury
from anneal.curation.domain.steps.mix import Mix
from anneal.curation.domain.steps.semantic_duplicates import SemanticDuplicates
from anneal.curation.settings import CurationOptions, EncoderOptions, JudgeOptions
from anneal.kit import names
from anneal.kit.errors import Invalid
from anneal.v1 import curation_service_pb2 as pb

Violation = tuple[str, str]
_PLACES = ("base_url", "api_key_env", "concurrency", "device")
Steps = Sequence[tuple[str, Step]]


def decode_order(request: pb.CurateDatasetRequest, options: CurationOptions) -> Steps:
    """Check a whole order and read its steps.

    Raises:
        Invalid: with every violation.
    """
    wrong = [
        *wrong_name(request.parent, "project", "parent"),
        *wrong_name(f"projects/p/datasets/{request.dataset_id}", "dataset", "dataset_id"),
    ]
    for index, source in enumerate(request.sources):
        wrong += wrong_name(source, "dataset_version", f"sources[{index}]")
        if source in request.sources[:index]:
            wrong.append((f"sources[{index}]", "is named twice"))
    if len(request.sources) > options.max_sources:
        wrong.append(("sources", f"{len(request.sources)} are more than {options.max_sources}"))
    if len(request.steps) > options.max_steps:
        wrong.append(("steps", f"{len(request.steps)} are more than {options.max_steps}"))
    if request.pipeline and request.pipeline not in PIPELINES:
        wrong.append(("pipeline", f"{request.pipeline[:80]!r} is none of: {', '.join(PIPELINES)}"))
    if not request.pipeline and not request.steps:
        wrong.append(("steps", f"are empty: give some, or a pipeline of: {', '.join(PIPELINES)}"))
    ready = len(PIPELINES.get(request.pipeline, ()))
    steps = _decode_steps(pipeline_of(request), wrong, options.judges, first=-ready)
    for index, (_, step) in enumerate(steps, -ready):
        if isinstance(step, Mix) and len(step.weights) != len(request.sources):
            count = f"{len(step.weights)} weights for {len(request.sources)} sources"
            wrong.append((f"steps[{index}].params.weights", f"{count}: give each source one, in their order"))
        if isinstance(step, SemanticDuplicates | Decontaminate):
            wrong += wrong_encoder(step.encoder, options.encoder, f"steps[{index}].params.encoder")
    refuse(wrong)
    return steps


def pipeline_of(request: pb.CurateDatasetRequest) -> list[pb.CurationStep]:
    """All steps of an order: those of its ready pipeline, then its own."""
    steps = []
    for name, params in PIPELINES.get(request.pipeline, ()):
        step = pb.CurationStep(step=name)
        step.params.update(params)
        steps.append(step)
    return [*steps, *request.steps]


def decode_steps(steps: Sequence[pb.CurationStep]) -> Steps:
    """Read the steps of an order that was accepted before."""
    wrong: list[Violation] = []
    found = _decode_steps(steps, wrong)
    refuse(wrong)
    return found


def _decode_steps(
    steps: Sequence[pb.CurationStep], wrong: list[Violation], judges: JudgeOptions | None = None, *, first: int = 0
) -> Steps:
    """Read steps; the one that the order numbers 0 is the first of its own."""
    found: list[tuple[str, Step]] = []
    for index, step in enumerate(steps, first):
        kind = STEPS.get(step.step)
        if kind is None:
            wrong.append((f"steps[{index}].step", f"{step.step[:80]!r} is none of: {', '.join(STEPS)}"))
            continue
        if kind in SPLITTERS and any(isinstance(before, SPLITTERS) for _, before in found):
            wrong.append((f"steps[{index}].step", "the rows are split by a step before"))
        made = decode_params(kind, step.params, f"steps[{index}].params", wrong)
        if made is not None:
            found.append((step.step, made))
            wrong += _wrong_scorer(made, [before for _, before in found[:-1]], judges, f"steps[{index}].params")
    return found


def _wrong_scorer(step: Step, before: Sequence[Step], options: JudgeOptions | None, path: str) -> Iterator[Violation]:
    """What is wrong with a scorer beyond its own settings: its name is taken, or it asks whom it may not."""
    if not isinstance(step, Scoring):
        return
    if any(isinstance(other, Scoring) and other.score_name == step.score_name for other in before):
        yield f"{path}.score_name", f"{step.score_name!r} is that of a step before"
    if options is None:
        return
    if not isinstance(step, Judging):
        if not any(fnmatchcase(step.model.name, pattern) for pattern in options.models):
            yield f"{path}.model.name", "is not among the models this service may run"
        return
    for index, judge in enumerate(step.judges):
        if not any(fnmatchcase(judge.host, pattern) for pattern in options.hosts):
            place = f"judges[{index}]" if isinstance(step, LlmJury) else "judge"
            yield f"{path}.{place}.base_url", f"host {judge.host[:200]!r} is not among those this service may reach"


def decode_params(kind: type[Step], params: struct_pb2.Struct, path: str, wrong: list[Violation]) -> Step | None:
    """Read the settings of a step; what is wrong with them is added to `wrong`."""
    values = _whole_numbers(json_format.MessageToDict(params))
    known = {field.name for field in fields(kind)}
    unknown = sorted(values.keys() - known)
    wrong += [(f"{path}.{name[:80]}", f"is unknown; known are: {', '.join(sorted(known))}") for name in unknown]
    meant = {name: value for name, value in values.items() if name in known}
    try:
        made = TypeAdapter(kind).validate_json(json.dumps(meant), strict=True)
    except ValidationError as error:
        wrong += [_violation(fault, path, values) for fault in error.errors(include_url=False, include_input=False)]
        return None
    if isinstance(made, Decontaminate):
        for index, name in enumerate(made.benchmarks):
            wrong += [] if name == ALL else wrong_name(name, "benchmark", f"{path}.benchmarks[{index}]")
    nested = list(_unknown_within(meant, made, path))
    wrong += nested
    return None if unknown or nested else made


def _unknown_within(value: Any, made: Any, path: str) -> Iterator[Violation]:
    """Settings of settings that do not exist; pydantic would leave them out without a word."""
    if isinstance(value, list) and isinstance(made, tuple):
        for index, (entry, of_entry) in enumerate(zip(value, made, strict=True)):
            yield from _unknown_within(entry, of_entry, f"{path}[{index}]")
    elif isinstance(value, dict) and is_dataclass(made):
        known = [field.name for field in fields(made)]
        for name, entry in value.items():
            if name in known:
                yield from _unknown_within(entry, getattr(made, name), f"{path}.{name}")
            else:
                yield f"{path}.{name[:80]}", f"is unknown; known are: {', '.join(sorted(known))}"


def _whole_numbers(value: Any) -> Any:
    """JSON as it was meant: a Struct knows no integers."""
    if isinstance(value, dict):
        return {name: _whole_numbers(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _violation(fault: Any, path: str, values: Any) -> Violation:
    place = path
    for part in fault["loc"]:
        if isinstance(values, dict) and part not in values and part == values.get("kind"):
            continue  # says which of several kinds was read, and is no field
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
        values = values.get(part) if isinstance(values, dict) else None
    cause = fault.get("ctx", {}).get("error")
    return (f"{place}.{cause.field}", str(cause)) if isinstance(cause, WrongSetting) else (place, fault["msg"])


def wrong_encoder(encoder: EncoderSpec, options: EncoderOptions, path: str) -> list[Violation]:
    """What the operator does not allow of an encoder."""
    if not isinstance(encoder, Endpoint):
        return []
    return wrong_host(encoder.base_url, options, f"{path}.base_url")


def wrong_host(url: str, options: EncoderOptions, field: str) -> list[Violation]:
    """What is wrong with the URL of an endpoint."""
    host = _host(url)
    if not host:
        return [(field, "is not an http or https URL")]
    allowed = any(fnmatchcase(host, pattern) for pattern in options.hosts)
    return [] if allowed else [(field, f"host {host[:200]!r} is not among those this service may reach")]


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        return (parts.hostname or "") if parts.scheme in ("http", "https") and parts.port != 0 else ""
    except ValueError:
        return ""


def decode_encoder(params: struct_pb2.Struct, path: str, wrong: list[Violation]) -> EncoderSpec:
    """An encoder named outside a step; hashing where it is empty, or wrong."""
    values = {"kind": "hashing", **_whole_numbers(json_format.MessageToDict(params))}
    try:
        made: EncoderSpec = TypeAdapter[EncoderSpec](EncoderSpec).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        wrong += [_violation({**fault, "loc": fault["loc"][1:]}, path, values) for fault in faults]
        return Hashing()
    return made


def wrong_name(value: str, kind: str, field: str) -> list[Violation]:
    """What is wrong with a resource name."""
    try:
        names.parse(value, kind, field)
    except Invalid as error:
        return list(error.violations)
    return []


def refuse(wrong: Sequence[Violation]) -> None:
    """Refuse a request that has violations.

    Raises:
        Invalid: there is one.
    """
    if wrong:
        text = "; ".join(f"{field}: {what}" for field, what in wrong)
        raise Invalid(text[:4_000], violations=wrong)


def benchmarks_of(steps: Steps) -> list[str]:
    """The benchmarks that steps compare with, each once."""
    return list(dict.fromkeys(name for _, step in steps if isinstance(step, Decontaminate) for name in step.benchmarks))


def encode_step(name: str, step: Step) -> Mapping[str, Any]:
    """A step as the manifest keeps it: every setting that shapes rows, also those by default."""
    value: Mapping[str, Any] = json.loads(json.dumps({"step": name, **asdict(step)}))
    return _without_places(value) if isinstance(step, Scoring) else value


def _without_places(value: Any) -> Any:
    """A scorer without where and how fast its models were reached, which shapes no row."""
    if isinstance(value, dict):
        return {name: _without_places(entry) for name, entry in value.items() if name not in _PLACES}
    return [_without_places(entry) for entry in value] if isinstance(value, list) else value


def encode_validated(nothing: Message) -> operations_pb2.Operation:
    """The answer to `validate_only`: done, and nothing was started; its result is an empty message."""
    operation = operations_pb2.Operation(done=True)
    operation.response.Pack(nothing)
    return operation
