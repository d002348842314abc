"""The body of the service's long job: a source and a recipe become a dataset version."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anneal.kit.datasets import DatasetReader, DatasetWriter
from anneal.kit.digests import sha256_hex
from anneal.kit.jobs.context import JobContext
from anneal.synthesis import codec
from anneal.synthesis.adapters.backoff import Backoff
from anneal.synthesis.adapters.dataset_sink import DatasetSink
from anneal.synthesis.adapters.dataset_source import make_checks, read_rows
from anneal.synthesis.adapters.file_journal import FileJournal
from anneal.synthesis.domain.engine import Checks, Classroom, synthesize
from anneal.synthesis.domain.ledger import Ledger, Spending
from anneal.synthesis.domain.recipe import Recipe
from anneal.synthesis.domain.teacher import TeacherBusy, TeacherRefused
from anneal.synthesis.errors import NothingLeft, NothingToWorkOn, TeacherAway, TeacherDeclined
from anneal.synthesis.settings import TeacherOptions
from anneal.v1 import dataset_pb2, registry_service_pb2, registry_service_pb2_grpc
from anneal.v1 import synthesis_service_pb2 as pb

PROGRESS_DOCUMENTS = 20
CANCEL_POLL_S = 0.2
SHOWN_REASONS = 3
"""So many reasons are shown where no row was kept, the commonest first."""


def synthesize_dataset(ctx: JobContext, request: pb.SynthesizeDatasetRequest) -> dataset_pb2.DatasetVersion:
    """Make the rows and write them; the name is given when the service publishes the result.

    Raises:
        NothingToWorkOn: no part of the source meets the recipe's conditions.
        TeacherDeclined: the teacher refuses every call.
        TeacherAway: it took no calls for too long.
        NothingLeft: no row was kept.
    """
    recipe = codec.decode_recipe(request.recipe)
    inputs = pin_inputs(ctx, request.source, recipe)
    source = DatasetReader(ctx.store, inputs[0].digest)
    checks = make_checks(recipe, ctx.store, [version.digest for version in inputs[1:]])
    writer = DatasetWriter(ctx.store, "conversation")
    sink = DatasetSink(writer, lambda verdict, reason, n: ctx.count("rows", n, verdict=verdict, reason=reason))
    try:
        spending = asyncio.run(_stoppable(ctx, _make_rows(ctx, recipe, source, checks, sink)))
    except TeacherRefused as error:
        raise TeacherDeclined(str(error)) from error
    except TeacherBusy as error:
        raise TeacherAway(f"the teacher takes no calls: {error}") from error
    if not sink.rows_in and not (spending and spending.not_asked):
        raise NothingToWorkOn(f"no part of {request.source} meets the recipe's conditions", source=request.source)
    sink.flush()
    _check_rows(ctx, sink, allow_empty=request.allow_empty)
    manifest = writer.finish(
        rows_in=sink.rows_in,
        parents=[version.digest for version in inputs],
        steps=[codec.encode_step(request.recipe)],
        statistics={"spending": asdict(spending)} if spending else None,
    )
    return dataset_pb2.DatasetVersion(
        name=f"{request.parent}/datasets/{request.dataset_id}/versions/{manifest.digest.removeprefix('sha256:')[:12]}",
        digest=manifest.digest,
        kind=dataset_pb2.DATASET_KIND_CONVERSATION,
        parents=[version.name for version in inputs],
        operation=ctx.operation,
        recipe_json=codec.encode_recipe_json(request),
    )


def _check_rows(ctx: JobContext, sink: DatasetSink, *, allow_empty: bool) -> None:
    """See that rows were kept, or say that none was.

    Raises:
        NothingLeft: none was, and that was not allowed.
    """
    if sink.kept:
        return
    told = "; ".join(f"{n} {verdict}: {reason}" for (verdict, reason), n in sink.counts.most_common(SHOWN_REASONS))
    said = f"no row was kept of {sink.rows_in}" + (f": {told}" if told else "")
    if not allow_empty:
        raise NothingLeft(f"{said}. With `allow_empty` the version is made all the same, and they can be read in it")
    ctx.log(f"the version is empty: {said}", level="warning")


@dataclass(frozen=True, slots=True)
class Input:
    """A dataset version the job reads."""

    name: str
    digest: str


def pin_inputs(ctx: JobContext, source: str, recipe: Recipe) -> list[Input]:
    """The source, then what it is compared with; what `latest` meant first it means in every attempt."""
    pinned = ctx.scratch / "inputs.json"
    if pinned.exists():
        return [Input(**version) for version in json.loads(pinned.read_text())]
    registry = registry_service_pb2_grpc.RegistryServiceStub(ctx.channel("registry"))
    found = [
        registry.GetDatasetVersion(registry_service_pb2.GetDatasetVersionRequest(name=name))
        for name in (source, *recipe.against)
    ]
    inputs = [Input(version.name, version.digest) for version in found]
    fresh = pinned.with_suffix(".new")
    fresh.write_text(json.dumps([asdict(version) for version in inputs]))
    fresh.replace(pinned)
    return inputs


async def _make_rows(
    ctx: JobContext, recipe: Recipe, source: DatasetReader, checks: Checks, sink: DatasetSink
) -> Spending | None:
    rows = _with_progress(ctx, read_rows(source), source.manifest.rows_out)
    async with _open_classroom(ctx, recipe) as classroom:
        before = asdict(classroom.ledger.spending) if classroom else {}
        async with aclosing(synthesize(recipe.generator, rows, checks, classroom)) as outcomes:
            async for outcome in outcomes:
                ctx.check()
                sink.add(outcome)
                if recipe.max_rows is not None and sink.kept >= recipe.max_rows:
                    break
        if classroom is None:
            return None
        _report(ctx, classroom.ledger.spending, before)
        return classroom.ledger.spending


@asynccontextmanager
async def _open_classroom(ctx: JobContext, recipe: Recipe) -> AsyncIterator[Classroom | None]:
    order = recipe.teacher
    if order is None:
        yield None
        return
    # Importing the client takes longer than most template jobs, which need none.
    from anneal.synthesis.adapters.openai_teacher import OpenAITeacher

    options = TeacherOptions.model_validate(ctx.options.get("teacher", {}))
    key = os.environ.get(order.api_key_env, "") if order.api_key_env else ""
    if order.api_key_env and not key:
        raise TeacherDeclined(f"the variable {order.api_key_env} is not set where the job runs")
    journal = FileJournal(_journal_path(ctx.scratch, order.model))
    try:
        async with OpenAITeacher(order.base_url, api_key=key, timeout_s=options.timeout_s) as teacher:
            yield Classroom(
                teacher=teacher,
                model=order.model,
                sampling=order.sampling,
                ledger=Ledger(recipe.max_total_tokens, journal),
                attempts=Backoff(most=options.attempts, away_s=options.away_s, report=ctx.waiting),
                concurrency=order.concurrency,
                overhead_tokens=options.overhead_tokens,
            )
    finally:
        journal.close()


def _journal_path(scratch: Path, model: str) -> Path:
    return scratch / f"calls-{sha256_hex(model.encode())[:12]}.jsonl"


def _with_progress(ctx: JobContext, rows: Iterator[Mapping[str, Any]], total: int) -> Iterator[Mapping[str, Any]]:
    number = 0
    for number, row in enumerate(rows, start=1):
        ctx.check()
        if number % PROGRESS_DOCUMENTS == 1:
            ctx.progress(number - 1, total, "documents")
        yield row
    ctx.progress(number, total, "documents")


def _report(ctx: JobContext, spending: Spending, before: Mapping[str, int]) -> None:
    """Count what this attempt added; the attempts before counted theirs."""
    spent = {name: value - before.get(name, 0) for name, value in asdict(spending).items()}
    ctx.count("tokens", spent["prompt_tokens"], use="prompt")
    ctx.count("tokens", spent["completion_tokens"], use="completion")
    for name in ("calls", "reused", "failed_attempts", "not_asked", "repaired"):
        ctx.count("answers", spent[name], outcome=name)
    ctx.log(
        f"{spending.spent_tokens} of {spending.budget_tokens} tokens spent in {spending.calls} calls "
        f"({spending.reused} answers reused, {spending.not_asked} calls not asked)"
    )


async def _stoppable(ctx: JobContext, work: Coroutine[Any, Any, Spending | None]) -> Spending | None:
    """The work's result; asked to stop, it stops between two awaits instead of waiting for a slow teacher."""
    task = asyncio.create_task(work)
    while not task.done():
        await asyncio.wait({task}, timeout=CANCEL_POLL_S)
        if ctx.is_cancelled and not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            ctx.check()
    return task.result()
