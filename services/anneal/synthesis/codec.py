"""Orders from the wire, checked field by field, and previews onto it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from google.longrunning import operations_pb2
from google.protobuf import json_format
from pydantic import ValidationError

from anneal.kit import names
from anneal.kit.errors import Invalid
from anneal.synthesis.domain.generators import GENERATORS, Generator
from anneal.synthesis.domain.recipe import (
    DEFAULT_MIN_GROUNDING,
    DEFAULT_NGRAM_WORDS,
    EQUAL_TEXT_ONLY,
    MAX_OVERLAP_OF_TAUGHT_ROWS,
    Recipe,
    TeacherOrder,
)
from anneal.synthesis.domain.teacher import Sampling
from anneal.v1 import dataset_pb2
from anneal.v1 import synthesis_service_pb2 as pb

KEY_VARIABLE = re.compile(r"ANNEAL_TEACHER_KEY_[A-Z0-9_]{1,64}")
DEFAULT_ANSWER_TOKENS, MAX_ANSWER_TOKENS = 512, 32_768
DEFAULT_CONCURRENCY, MAX_CONCURRENCY = 8, 256
MAX_NGRAM_WORDS = 50
PREVIEW_ROWS, MAX_PREVIEW_ROWS = 5, 50


class Violations:
    """Collects what is wrong with a request, so that one answer names it all."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []

    def need(self, holds: bool, field: str, description: str) -> None:
        """Note a violation unless the condition holds."""
        if not holds:
            self._found.append((field, description))

    def name(self, value: str, kind: str, field: str) -> None:
        """Note a resource name that does not follow its pattern."""
        try:
            names.parse(value, kind, field)
        except Invalid as error:
            self._found.extend(error.violations)

    def params(self, error: ValidationError, field: str) -> None:
        """Note every field of a generator's params that is wrong."""
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        places = [fault["loc"] for fault in faults]
        for fault in faults:
            here = fault["loc"]
            if fault["type"] == "too_short" and any(here == place[: len(here)] != place for place in places):
                continue  # it only lacks the items that are themselves wrong
            self._found.append((field + _path(fault["loc"]), fault["msg"].removeprefix("Value error, ")))

    def refuse(self) -> None:
        """Refuse the request if anything was noted.

        Raises:
            Invalid: with every violation.
        """
        if self._found:
            text = "; ".join(f"{field}: {what}" for field, what in self._found)
            raise Invalid(text[:4_000], violations=self._found)


def check_kind(version: dataset_pb2.DatasetVersion, field: str) -> None:
    """Check that a dataset version is one to make rows from, or to compare them with.

    Raises:
        Invalid: its rows are preferences.
    """
    if version.kind == dataset_pb2.DATASET_KIND_PREFERENCE:
        text = f"{version.name} holds preferences; rows are made from, and compared with, documents and conversations"
        raise Invalid.field(field, text)


def decode_order(request: pb.SynthesizeDatasetRequest, hosts: Sequence[str]) -> Recipe:
    """Check a whole order and read its recipe.

    Raises:
        Invalid: with every violation.
    """
    wrong = Violations()
    wrong.name(request.parent, "project", "parent")
    wrong.name(f"projects/p/datasets/{request.dataset_id}", "dataset", "dataset_id")
    wrong.name(request.source, "dataset_version", "source")
    return _decode_recipe(request.recipe, hosts, wrong)


def decode_preview(request: pb.PreviewSynthesisRequest) -> tuple[Recipe, int]:
    """Check a preview: its recipe and how many rows it wants.

    Raises:
        Invalid: with every violation; a preview that would cost tokens is one.
    """
    wrong = Violations()
    wrong.name(request.source, "dataset_version", "source")
    wrong.need(request.max_rows >= 0, "max_rows", f"{request.max_rows} is negative")
    generator = GENERATORS.get(request.recipe.generator)
    wrong.need(
        generator is None or not generator.needs_teacher,
        "recipe.generator",
        f"{request.recipe.generator!r} would cost tokens; a preview is free",
    )
    recipe = _decode_recipe(request.recipe, ("*",), wrong)
    return recipe, min(request.max_rows or PREVIEW_ROWS, MAX_PREVIEW_ROWS)


def decode_recipe(recipe: pb.SynthesisRecipe) -> Recipe:
    """Read a recipe that was accepted before."""
    return _decode_recipe(recipe, ("*",), Violations())


def _decode_recipe(recipe: pb.SynthesisRecipe, hosts: Sequence[str], wrong: Violations) -> Recipe:
    generator = _decode_generator(recipe, wrong)
    taught = generator is not None and generator.needs_teacher
    has_teacher = recipe.HasField("teacher")
    if generator is not None:
        wrong.need(has_teacher or not taught, "recipe.teacher", f"{recipe.generator!r} needs a teacher")
        wrong.need(taught or not has_teacher, "recipe.teacher", f"{recipe.generator!r} takes no teacher")
    if has_teacher:
        _check_teacher(recipe.teacher, hosts, wrong)
        enough = recipe.max_total_tokens > 0
        wrong.need(enough, "recipe.max_total_tokens", "a teacher needs a budget of at least 1 token")
    wrong.need(recipe.max_rows >= 0, "recipe.max_rows", f"{recipe.max_rows} is negative")
    novelty = recipe.novelty
    max_overlap = MAX_OVERLAP_OF_TAUGHT_ROWS if taught else EQUAL_TEXT_ONLY
    if novelty.HasField("max_overlap"):
        max_overlap = novelty.max_overlap
    min_grounding = recipe.min_grounding if recipe.HasField("min_grounding") else DEFAULT_MIN_GROUNDING
    _share(max_overlap, "recipe.novelty.max_overlap", wrong)
    _share(min_grounding, "recipe.min_grounding", wrong)
    fits = 0 <= novelty.ngram_words <= MAX_NGRAM_WORDS
    wrong.need(fits, "recipe.novelty.ngram_words", f"{novelty.ngram_words} is not within 0 and {MAX_NGRAM_WORDS}")
    for index, version in enumerate(novelty.against):
        wrong.name(version, "dataset_version", f"recipe.novelty.against[{index}]")
    wrong.refuse()
    assert generator is not None
    return Recipe(
        generator_name=recipe.generator,
        generator=generator,
        teacher=_teacher(recipe.teacher) if has_teacher else None,
        max_total_tokens=recipe.max_total_tokens,
        max_rows=recipe.max_rows or None,
        max_overlap=max_overlap,
        ngram_words=novelty.ngram_words or DEFAULT_NGRAM_WORDS,
        against=tuple(novelty.against),
        min_grounding=min_grounding,
    )


def _decode_generator(recipe: pb.SynthesisRecipe, wrong: Violations) -> Generator | None:
    kind = GENERATORS.get(recipe.generator)
    if kind is None:
        known = ", ".join(sorted(GENERATORS))
        wrong.need(False, "recipe.generator", f"{recipe.generator[:80]!r} is none of: {known}")
        return None
    try:
        return kind.model_validate(json_format.MessageToDict(recipe.params))
    except ValidationError as error:
        wrong.params(error, "recipe.params")
        return None


def _check_teacher(teacher: pb.Teacher, hosts: Sequence[str], wrong: Violations) -> None:
    host = _host(teacher.base_url)
    wrong.need(bool(host), "recipe.teacher.base_url", "is not an http or https URL")
    allowed = not host or any(fnmatchcase(host, pattern) for pattern in hosts)
    wrong.need(allowed, "recipe.teacher.base_url", f"host {host[:200]!r} is not among those this service may reach")
    key = teacher.api_key_env
    wrong.need(
        not key or bool(KEY_VARIABLE.fullmatch(key)),
        "recipe.teacher.api_key_env",
        f"does not follow `{KEY_VARIABLE.pattern}`",
    )
    warmth = teacher.temperature
    wrong.need(0 <= warmth <= 2, "recipe.teacher.temperature", f"{warmth} is not within 0 and 2")
    length = teacher.max_tokens
    wrong.need(0 <= length <= MAX_ANSWER_TOKENS, "recipe.teacher.max_tokens", f"{length} is not within 0 and 32768")
    wrong.need(teacher.seed >= 0, "recipe.teacher.seed", f"{teacher.seed} is negative")
    wide = teacher.max_concurrency
    wrong.need(0 <= wide <= MAX_CONCURRENCY, "recipe.teacher.max_concurrency", f"{wide} is not within 0 and 256")


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        return (parts.hostname or "") if parts.scheme in ("http", "https") and parts.port != 0 else ""
    except ValueError:
        return ""


def _share(value: float, field: str, wrong: Violations) -> None:
    wrong.need(0 <= value <= 1, field, f"{value} is not within 0 and 1")


def _teacher(teacher: pb.Teacher) -> TeacherOrder:
    return TeacherOrder(
        base_url=teacher.base_url,
        model=teacher.model,
        api_key_env=teacher.api_key_env,
        sampling=Sampling(
            temperature=teacher.temperature if teacher.HasField("temperature") else 0.7,
            max_tokens=teacher.max_tokens or DEFAULT_ANSWER_TOKENS,
            seed=teacher.seed,
        ),
        concurrency=teacher.max_concurrency or DEFAULT_CONCURRENCY,
    )


def _path(location: Iterable[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def encode_step(recipe: pb.SynthesisRecipe) -> dict[str, Any]:
    """The recipe as a manifest keeps it: everything that shapes rows, and not where the teacher was reached."""
    step: dict[str, Any] = json_format.MessageToDict(recipe, preserving_proto_field_name=True)
    for name in ("base_url", "api_key_env", "max_concurrency"):
        step.get("teacher", {}).pop(name, None)
    return {"step": "synthesize", **step}


def encode_recipe_json(request: pb.SynthesizeDatasetRequest) -> str:
    """The order as lineage keeps it."""
    kept = pb.SynthesizeDatasetRequest()
    kept.CopyFrom(request)
    kept.ClearField("request_id")
    return json.dumps(json_format.MessageToDict(kept, preserving_proto_field_name=True), sort_keys=True)


def encode_preview(
    rows: Sequence[Mapping[str, Any]], removed: Mapping[tuple[str, str], int], quarantined: int, documents: int
) -> pb.PreviewSynthesisResponse:
    """Rows of a preview with what stayed out."""
    return pb.PreviewSynthesisResponse(
        rows=[
            dataset_pb2.Row(id=row["id"], json=json.dumps(_plain(row), ensure_ascii=False, sort_keys=True))
            for row in rows
        ],
        removals=[
            dataset_pb2.RemovalCount(step=step, reason=reason, row_count=count)
            for (step, reason), count in sorted(removed.items())
        ],
        quarantined_row_count=quarantined,
        document_count=documents,
    )


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its JSON columns opened, as people read it."""
    decoded = {name: json.loads(row[name]) for name in ("origin", "meta") if row.get(name)}
    return {**row, **decoded, "scores": dict(row["scores"])}


def encode_validated() -> operations_pb2.Operation:
    """The answer to `validate_only`: done, and nothing was started."""
    operation = operations_pb2.Operation(done=True)
    operation.response.Pack(dataset_pb2.DatasetVersion())
    return operation
