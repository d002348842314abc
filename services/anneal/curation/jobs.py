"""The body of the service's long job: dataset versions and steps become a dataset version."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from anneal.curation import codec
from anneal.curation.adapters.encoders import encoder_of
from anneal.curation.adapters.executors.ray_data import RayData
from anneal.curation.adapters.executors.threads import Threads
from anneal.curation.adapters.judges import scorer_of
from anneal.curation.adapters.memory import use_malloc
from anneal.curation.adapters.packs import Index
from anneal.curation.adapters.stored_rows import DatasetSink, StoredRows
from anneal.curation.adapters.vault import ScratchVault
from anneal.curation.domain.contamination import Cover
from anneal.curation.domain.engine import NamedStep, Outcome, curate
from anneal.curation.domain.errors import NothingLeft
from anneal.curation.domain.pieces import Executor
from anneal.curation.domain.steps import Scoring, Step
from anneal.curation.domain.steps.decontaminate import ALL, Decontaminate, Decontamination
from anneal.curation.domain.steps.semantic_duplicates import SemanticComparison, SemanticDuplicates
from anneal.curation.planning import HeldOut, Inputs, Version, check_sources
from anneal.curation.settings import CurationOptions, EncoderOptions, JudgeOptions
from anneal.kit.datasets import DatasetReader, DatasetWriter
from anneal.kit.jobs.context import JobContext
from anneal.kit.publishing import unpublished_version
from anneal.v1 import curation_service_pb2 as pb
from anneal.v1 import dataset_pb2
from anneal.v1.registry_service_pb2 import (
    GetBenchmarkRequest,
    GetDatasetVersionRequest,
    ListBenchmarksRequest,
    ListDatasetVersionsRequest,
)
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub

SHOWN_REASONS = 3
"""So many reasons are shown where every row was removed, the commonest first."""


def curate_dataset(ctx: JobContext, request: pb.CurateDatasetRequest) -> dataset_pb2.DatasetVersion:
    """Judge the rows and write them; the name is given when the service publishes the result.

    What an attempt has found in a piece of the rows, the next one need not look for, nor need the dataset's next
    version; the same order over the same inputs ends with the same bytes, whatever was known before.

    Raises:
        AlreadySplit: the order would split rows that have splits.
        IndexIncomplete: a benchmark item cannot be indexed.
        NothingLeft: every row was removed.
    """
    use_malloc()
    steps = codec.decode_steps(codec.pipeline_of(request))
    inputs = pin_inputs(ctx, request, codec.benchmarks_of(steps))
    if any(isinstance(step, Decontaminate) for _, step in steps) and not inputs.benchmarks:
        ctx.log("the project has no benchmark: the rows were compared with none", level="warning")
    readers = [DatasetReader(ctx.store, source.digest) for source in inputs.sources]
    check_sources(readers, steps, inputs.sources)
    runnable = [_named(ctx, name, step, inputs) for name, step in steps]
    writer = DatasetWriter(ctx.store, readers[0].manifest.kind)
    options = CurationOptions.model_validate(ctx.options)
    index = Index.read(ctx.store, inputs.index) if inputs.index else None
    vault = ScratchVault(ctx.scratch / "parts", ctx.store, index)
    outcome = curate(runnable, StoredRows(readers), vault, _executor(options), DatasetSink(writer), _Watcher(ctx))
    _check_rows(ctx, outcome, allow_empty=request.allow_empty)
    statistics = _covers(runnable) | _encoders(runnable) | _mixtures(outcome, inputs)
    if outcome.scorings:
        statistics["scoring"] = outcome.scorings
    if options.keep_index:
        statistics |= _index(ctx, vault, outcome)
    manifest = writer.finish(
        rows_in=outcome.rows_in,
        parents=[source.digest for source in inputs.sources],
        steps=[codec.encode_step(name, step) for name, step in steps],
        decontaminated_against=sorted({held_out.digest for held_out in inputs.benchmarks}),
        statistics=statistics,
    )
    _report(ctx, outcome)
    return unpublished_version(manifest, request, ctx.operation, [source.name for source in inputs.sources])


def _check_rows(ctx: JobContext, outcome: Outcome, *, allow_empty: bool) -> None:
    """See that rows are left, or say that none is.

    Raises:
        NothingLeft: none is, and that was not allowed.
    """
    if outcome.kept.total():
        return
    told = "; ".join(f"{n} by {step}: {reason}" for (step, reason), n in outcome.removed.most_common(SHOWN_REASONS))
    said = f"no row is left of {outcome.rows_in}" + (f": {told}" if told else "")
    if not allow_empty:
        raise NothingLeft(f"{said}. With `allow_empty` the version is made all the same, and they can be read in it")
    ctx.log(f"the version is empty: {said}", level="warning")


def pin_inputs(ctx: JobContext, request: pb.CurateDatasetRequest, benchmarks: Sequence[str]) -> Inputs:
    """What the order reads; what `latest` meant first it means in every attempt."""
    pinned = ctx.scratch / "inputs.json"
    if pinned.exists():
        kept = json.loads(pinned.read_text(encoding="utf-8"))
        return Inputs(
            sources=tuple(Version(**source) for source in kept["sources"]),
            benchmarks=tuple(HeldOut(**held_out) for held_out in kept["benchmarks"]),
            index=kept["index"],
        )
    registry: Any = RegistryServiceStub(ctx.channel("registry"))
    versions = [registry.GetDatasetVersion(GetDatasetVersionRequest(name=name)) for name in request.sources]
    found = benchmarks_named(registry, request.parent, benchmarks)
    inputs = Inputs(
        sources=tuple(Version(name=version.name, digest=version.digest) for version in versions),
        benchmarks=tuple(found),
        index=_newest_index(ctx, registry, f"{request.parent}/datasets/{request.dataset_id}"),
    )
    fresh = pinned.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(inputs)), encoding="utf-8")
    fresh.replace(pinned)
    return inputs


def benchmarks_named(registry: Any, project: str, names: Sequence[str]) -> list[HeldOut]:
    """The benchmarks of these names, each once; `*` stands for all of the project."""
    found = {}
    for name in names:
        if name != ALL:
            one = registry.GetBenchmark(GetBenchmarkRequest(name=name))
            found[one.name] = HeldOut(name=one.name, digest=one.dataset_digest, split=one.split)
            continue
        token = ""
        while True:
            page = registry.ListBenchmarks(ListBenchmarksRequest(parent=project, page_size=1000, page_token=token))
            found |= {
                one.name: HeldOut(name=one.name, digest=one.dataset_digest, split=one.split) for one in page.benchmarks
            }
            token = page.next_page_token
            if not token:
                break
    return [found[name] for name in sorted(found)]


def _newest_index(ctx: JobContext, registry: Any, dataset: str) -> str:
    """The index of the dataset's newest version; empty where there is none."""
    newest = registry.ListDatasetVersions(ListDatasetVersionsRequest(parent=dataset, page_size=1)).dataset_versions
    return str(DatasetReader(ctx.store, newest[0].digest).manifest.statistics.get("index", "")) if newest else ""


def _index(ctx: JobContext, vault: ScratchVault, outcome: Outcome) -> dict[str, str]:
    """What the manifest says of where the dataset's next version finds what is known of these rows."""
    return {"index": vault.publish(outcome.parts, outcome.notes, ctx.store)}


def _mixtures(outcome: Outcome, inputs: Inputs) -> dict[str, Any]:
    """How often the rows of each source are there, for steps that repeat rows."""
    told = []
    for account in outcome.accounts:
        sources = [{**one, **asdict(inputs.sources[one["source"]])} for one in account["sources"]]
        told.append({"step": account["step"], "sources": sources})
    return {"mixtures": told} if told else {}


def _executor(options: CurationOptions) -> Executor:
    return RayData(options.ray_address) if options.executor == "ray" else Threads(options.threads)


def _named(ctx: JobContext, name: str, step: Step, inputs: Inputs) -> NamedStep:
    """A step ready to run; its key says what it does: its settings, what it compares with, and what by."""
    compared = [asdict(one) for one in inputs.benchmarks] if isinstance(step, Decontaminate) else []
    run = _runnable(ctx, step, inputs.benchmarks)
    encoder = [run.encoder.key] if isinstance(run, SemanticComparison) else []
    return NamedStep(name, run, json.dumps([codec.encode_step(name, step), compared, *encoder], sort_keys=True))


def _runnable(ctx: JobContext, step: Step, benchmarks: Sequence[HeldOut]) -> Any:
    """The step itself, or with the index, the models or the encoder it needs."""
    if isinstance(step, Scoring):
        judges = JudgeOptions.model_validate(ctx.options["judges"])
        return scorer_of(step, ctx.scratch, judges, check=ctx.check, count=ctx.count, waiting=ctx.waiting)
    if isinstance(step, SemanticDuplicates):
        encoders = EncoderOptions.model_validate(ctx.options["encoder"])
        return SemanticComparison(step=step, encoder=encoder_of(step.encoder, encoders))
    if not isinstance(step, Decontaminate):
        return step
    return decontamination_of(ctx, step, benchmarks)


def decontamination_of(ctx: JobContext, step: Decontaminate, benchmarks: Sequence[HeldOut]) -> Decontamination:
    """A step with the index of its benchmarks.

    Raises:
        IndexIncomplete: an item cannot be indexed.
    """
    encoder = None
    if "semantic" in step.methods:
        encoder = encoder_of(step.encoder, EncoderOptions.model_validate(ctx.options["encoder"]))
    index = step.index(encoder)
    for held_out in benchmarks:
        if step.compares_with(held_out.name):
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


def _encoders(steps: Sequence[NamedStep]) -> dict[str, Any]:
    """What the manifest keeps of encoders beside the settings: exactly which model gave the vectors."""
    used = [
        {"step": step.name, "key": step.run.encoder.key, "dimension": step.run.encoder.dimension}
        for step in steps
        if isinstance(step.run, SemanticComparison)
    ]
    return {"encoders": used} if used else {}


class _Watcher:
    """Tells how far the job is, how fast, and how long what it does now will take."""

    def __init__(self, ctx: JobContext, clock: Callable[[], float] = time.monotonic) -> None:
        self._ctx, self._clock = ctx, clock
        self._doing, self._since, self._first = "", 0.0, 0

    def __call__(self, doing: str, done: int, total: int) -> None:
        self._ctx.check()
        if doing != self._doing:
            self._doing, self._since, self._first = doing, self._clock(), done
        spent = self._clock() - self._since
        rate = (done - self._first) / spent if spent > 0 else 0.0
        said = f"{doing}: {rate:,.0f} rows/s, {(total - done) / rate:,.0f} s left" if rate else doing
        self._ctx.progress(done, total, "rows", said)


def _report(ctx: JobContext, outcome: Outcome) -> None:
    """Count rows once, at the end: an attempt that was killed counted nothing."""
    ctx.count("rows", sum(outcome.kept.values()), verdict="kept", reason="")
    for (step, reason), number in sorted(outcome.removed.items()):
        ctx.count("rows", number, verdict="removed", reason=reason)
        ctx.log(f"{step}: {number} rows removed ({reason})")
