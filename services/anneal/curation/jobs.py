"""The body of the service's long job: dataset versions and steps become a dataset version."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from anneal.curation import codec
from anneal.curation.adapters.encoders import encoder_of
from anneal.curation.adapters.stored_rows import DatasetSink, StoredRows
from anneal.curation.domain.contamination import Cover
from anneal.curation.domain.engine import NamedStep, Outcome, curate
from anneal.curation.domain.steps import Step
from anneal.curation.domain.steps.decontaminate import Decontaminate, Decontamination
from anneal.curation.domain.steps.semantic_duplicates import SemanticComparison, SemanticDuplicates
from anneal.curation.planning import HeldOut, Inputs, Version, check_sources
from anneal.curation.settings import CurationOptions
from anneal.kit.datasets import DatasetReader, DatasetWriter
from anneal.kit.jobs.context import JobContext
from anneal.kit.publishing import unpublished_version
from anneal.v1 import curation_service_pb2 as pb
from anneal.v1 import dataset_pb2
from anneal.v1.registry_service_pb2 import GetBenchmarkRequest, GetDatasetVersionRequest
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub


def curate_dataset(ctx: JobContext, request: pb.CurateDatasetRequest) -> dataset_pb2.DatasetVersion:
    """Judge the rows and write them; the name is given when the service publishes the result.

    An attempt begins anew: the same order over the same inputs ends with the same bytes, so what was written before is
    found in the store and not written again.

    Raises:
        AlreadySplit: the order would split rows that have splits.
        IndexIncomplete: a benchmark item cannot be indexed.
    """
    steps = codec.decode_steps(request.steps)
    inputs = pin_inputs(ctx, request, codec.benchmarks_of(steps))
    readers = [DatasetReader(ctx.store, source.digest) for source in inputs.sources]
    check_sources(readers, steps, inputs.sources)
    runnable = [NamedStep(name, _runnable(ctx, step, inputs.benchmarks)) for name, step in steps]
    writer = DatasetWriter(ctx.store, readers[0].manifest.kind)
    outcome = curate(runnable, StoredRows(readers), DatasetSink(writer), _watcher(ctx))
    manifest = writer.finish(
        rows_in=outcome.rows_in,
        parents=[source.digest for source in inputs.sources],
        steps=[codec.encode_step(name, step) for name, step in steps],
        decontaminated_against=sorted({held_out.digest for held_out in inputs.benchmarks}),
        statistics=_covers(runnable),
    )
    _report(ctx, outcome)
    return unpublished_version(manifest, request, ctx.operation, [source.name for source in inputs.sources])


def pin_inputs(ctx: JobContext, request: pb.CurateDatasetRequest, benchmarks: Sequence[str]) -> Inputs:
    """What the order reads; what `latest` meant first it means in every attempt."""
    pinned = ctx.scratch / "inputs.json"
    if pinned.exists():
        kept = json.loads(pinned.read_text(encoding="utf-8"))
        return Inputs(
            sources=tuple(Version(**source) for source in kept["sources"]),
            benchmarks=tuple(HeldOut(**held_out) for held_out in kept["benchmarks"]),
        )
    registry: Any = RegistryServiceStub(ctx.channel("registry"))
    versions = [registry.GetDatasetVersion(GetDatasetVersionRequest(name=name)) for name in request.sources]
    found = [registry.GetBenchmark(GetBenchmarkRequest(name=name)) for name in benchmarks]
    inputs = Inputs(
        sources=tuple(Version(name=version.name, digest=version.digest) for version in versions),
        benchmarks=tuple(HeldOut(name=one.name, digest=one.dataset_digest, split=one.split) for one in found),
    )
    fresh = pinned.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(inputs)), encoding="utf-8")
    fresh.replace(pinned)
    return inputs


def _runnable(ctx: JobContext, step: Step, benchmarks: Sequence[HeldOut]) -> Any:
    """The step itself, or with the index or the encoder it needs."""
    if isinstance(step, SemanticDuplicates):
        options = CurationOptions.model_validate(ctx.options)
        return SemanticComparison(step=step, encoder=encoder_of(step.encoder, options.encoder))
    if not isinstance(step, Decontaminate):
        return step
    index = step.index()
    for held_out in benchmarks:
        if held_out.name in step.benchmarks:
            ctx.check()
            index.add(held_out.name, DatasetReader(ctx.store, held_out.digest).batches(held_out.split), step.methods)
            if "ngram" in step.methods:
                _tell_cover(ctx, held_out.name, index.covers[held_out.name])
    return Decontamination(step=step, index=index)


def _tell_cover(ctx: JobContext, benchmark: str, cover: Cover) -> None:
    ctx.log(f"{benchmark}: {cover.common_ngrams} n-grams are in too many of its items to count")
    if cover.prompt_only_items:
        ctx.log(
            f"{benchmark}: {cover.prompt_only_items} of its {cover.items} items are found by their prompt only",
            level="warning",
        )


def _covers(steps: Sequence[NamedStep]) -> dict[str, Any]:
    """What the manifest keeps of decontamination beside the settings: how much of each benchmark could be compared."""
    covers = [
        {"step": step.name, "benchmark": benchmark, **asdict(cover)}
        for step in steps
        if isinstance(step.run, Decontamination)
        for benchmark, cover in step.run.index.covers.items()
    ]
    return {"decontamination": covers} if covers else {}


def _watcher(ctx: JobContext) -> Any:
    def watch(doing: str, done: int, total: int) -> None:
        ctx.check()
        ctx.progress(done, total, "rows", doing)

    return watch


def _report(ctx: JobContext, outcome: Outcome) -> None:
    """Count rows once, at the end: an attempt that was killed counted nothing."""
    ctx.count("rows", sum(outcome.kept.values()), verdict="kept", reason="")
    for (step, reason), number in sorted(outcome.removed.items()):
        ctx.count("rows", number, verdict="removed", reason=reason)
        ctx.log(f"{step}: {number} rows removed ({reason})")
