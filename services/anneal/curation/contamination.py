"""Reports of contamination: of what a version lost to decontamination, and of what benchmarks touch afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
from google.protobuf import struct_pb2

from anneal.curation import codec
from anneal.curation.adapters.executors.threads import Threads
from anneal.curation.adapters.stored_rows import StoredRows
from anneal.curation.adapters.vault import ScratchVault
from anneal.curation.domain.contamination_report import Tally, shared, tally
from anneal.curation.domain.looks import Judging
from anneal.curation.domain.pieces import Task
from anneal.curation.domain.steps.base import TEST
from anneal.curation.domain.steps.decontaminate import ALL, Decontaminate
from anneal.curation.domain.texts import text_of
from anneal.curation.domain.workbench import Workbench
from anneal.curation.jobs import benchmarks_named, decontamination_of
from anneal.curation.planning import HeldOut
from anneal.curation.settings import CurationOptions
from anneal.kit.datasets import DatasetReader
from anneal.kit.jobs.context import JobContext
from anneal.kit.records import REMOVED_FIELDS
from anneal.kit.store import Store
from anneal.v1 import contamination_pb2 as pb
from anneal.v1.registry_service_pb2 import (
    GetDatasetVersionRequest,
    ListAdaptersRequest,
    ListAdapterVersionsRequest,
    ListDatasetsRequest,
    ListDatasetVersionsRequest,
)
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub

PAGE = 1_000
Texts = Callable[[Iterable[str]], Mapping[str, str]]


def decode_order(request: pb.CheckContaminationRequest, options: CurationOptions) -> Decontaminate:
    """Check a whole order, and read the step that its settings mean.

    Raises:
        Invalid: with every violation.
    """
    wrong = codec.wrong_name(request.parent, "project", "parent")
    for index, name in enumerate(request.dataset_versions):
        wrong += codec.wrong_name(name, "dataset_version", f"dataset_versions[{index}]")
    step = _decode_step(request, wrong)
    if step is not None:
        wrong += codec.wrong_encoder(step.encoder, options.encoder, "params.encoder")
    codec.refuse(wrong)
    assert step is not None
    return step


def _decode_step(request: pb.CheckContaminationRequest, wrong: list[codec.Violation]) -> Decontaminate | None:
    if "benchmarks" in request.params:
        wrong.append(("params.benchmarks", "is said by `benchmarks`"))
    params = struct_pb2.Struct()
    params.CopyFrom(request.params)
    params["benchmarks"] = list(request.benchmarks) or [ALL]
    step = codec.decode_params(Decontaminate, params, "params", wrong)
    return step if isinstance(step, Decontaminate) else None


# -- what a version lost -------------------------------------------------------------------------------------------


def report_of(store: Store, name: str, digest: str, benchmarks: Mapping[str, HeldOut]) -> pb.ContaminationReport:
    """What decontamination took out of a version.

    Args:
        store: where rows are.
        name: the version's name.
        digest: of its manifest.
        benchmarks: those of the project, by name.
    """
    reader = DatasetReader(store, digest)
    columns = ["id", *(field.name for field in REMOVED_FIELDS[1:])]
    rows = (
        tuple(row)
        for batch in reader.batches(part="removed", columns=columns)
        for row in zip(*(batch.column(column).to_pylist() for column in columns), strict=True)
    )
    tallies = tally(rows)
    report = pb.ContaminationReport(dataset_version=name, decontaminated=bool(reader.manifest.decontaminated_against))
    report.benchmarks.extend(_told(store, tallies, benchmarks, lambda ids: _texts(reader.batches(part="removed"), ids)))
    return report


def _told(
    store: Store, tallies: Mapping[str, Tally], benchmarks: Mapping[str, HeldOut], rows: Texts
) -> Iterator[pb.BenchmarkContamination]:
    for name, one in tallies.items():
        made = pb.BenchmarkContamination(benchmark=name, item_count=len(one.items), row_count=one.rows.total())
        made.row_counts.update(one.rows)
        held_out = benchmarks.get(name)
        items: Mapping[str, str] = {}
        if held_out is not None:
            batches = DatasetReader(store, held_out.digest).batches(held_out.split)
            items = _texts(batches, {example.item for example in one.examples})
        texts = rows({example.row for example in one.examples})
        for example in one.examples:
            both = shared(texts.get(example.row, ""), items.get(example.item, ""))
            made.examples.add(
                row_id=example.row,
                item_id=example.item,
                reason=example.reason,
                row_excerpt=both.left,
                item_excerpt=both.right,
                shared_words=both.words,
            )
        yield made


def _texts(batches: Iterable[pa.RecordBatch], ids: Iterable[str]) -> Mapping[str, str]:
    """The texts of some rows, by id; those that are not there are left out."""
    wanted, found = set(ids), {}
    for batch in batches if wanted else ():
        for row, name in enumerate(batch.column("id").to_pylist()):
            if name in wanted:
                found[name] = text_of(batch.slice(row, 1), "conversation")[0].as_py()
                wanted.discard(name)
        if not wanted:
            break
    return found


# -- what benchmarks touch -----------------------------------------------------------------------------------------


def check_contamination(ctx: JobContext, request: pb.CheckContaminationRequest) -> pb.CheckContaminationResponse:
    """Look for items of benchmarks in the rows of dataset versions; versions an attempt has done stay done.

    Raises:
        IndexIncomplete: a benchmark item cannot be indexed.
    """
    step = decode_order(request, CurationOptions.model_validate(ctx.options))
    registry: Any = RegistryServiceStub(ctx.channel("registry"))
    pinned = ctx.scratch / "check.json"
    if not pinned.exists():
        fresh = pinned.with_suffix(".new")
        held_out = benchmarks_named(registry, request.parent, step.benchmarks)
        named = [[one.name, one.digest, one.split] for one in held_out]
        text = json.dumps({"benchmarks": named, "versions": _versions(registry, request)})
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(pinned)
    told = json.loads(pinned.read_text(encoding="utf-8"))
    benchmarks = [HeldOut(name=name, digest=digest, split=split) for name, digest, split in told["benchmarks"]]
    response = pb.CheckContaminationResponse(
        checked_version_count=len(told["versions"]), benchmarks=[one.name for one in benchmarks]
    )
    if not benchmarks:
        return response
    adapters = _adapters(registry, request.parent)
    judging = Judging(decontamination_of(ctx, step, benchmarks))
    vault = ScratchVault(ctx.scratch / "parts")
    for number, (name, digest) in enumerate(told["versions"]):
        ctx.check()
        ctx.progress(number, len(told["versions"]), "dataset versions", name)
        found = pb.VersionContamination(dataset_version=name, adapter_versions=adapters.get(name, ()))
        found.benchmarks.extend(_touched(ctx, vault, digest, judging, benchmarks))
        if found.benchmarks:
            response.versions.append(found)
            ctx.log(f"{name} holds items of {len(found.benchmarks)} benchmarks", level="warning")
    return response


def _touched(
    ctx: JobContext, vault: ScratchVault, digest: str, judging: Judging, benchmarks: Iterable[HeldOut]
) -> Iterator[pb.BenchmarkContamination]:
    """What rows of a version outside its split test have in common with benchmarks."""
    source = StoredRows([DatasetReader(ctx.store, digest)])
    bench = Workbench(source, vault, Threads(), lambda *_: ctx.check())
    bench.looks["judge"] = judging
    keys = [bench.key(piece, "judge", 0) for piece in range(len(bench.pieces))]
    wanted = [piece.split != TEST for piece in bench.pieces]
    bench.examine("judge", [[Task(key, "judge")] if want else [] for key, want in zip(keys, wanted, strict=True)])

    def removals() -> Iterator[tuple[str, str, str, str]]:
        for piece, key, want in zip(bench.pieces, keys, wanted, strict=True):
            part = vault.open(key) if want else None
            if part is not None and part.num_rows:
                ids = source.load(piece).column("id").take(part.column("place")).to_pylist()
                columns = (part.column(name).to_pylist() for name in ("reason", "numbers", "duplicate_of"))
                yield from zip(ids, *columns, strict=True)

    def texts(ids: Iterable[str]) -> Mapping[str, str]:
        return _texts((source.load(piece) for piece, want in zip(bench.pieces, wanted, strict=True) if want), ids)

    return _told(ctx.store, tally(removals()), {one.name: one for one in benchmarks}, texts)


def _versions(registry: Any, request: pb.CheckContaminationRequest) -> list[tuple[str, str]]:
    """Name and digest of the versions to look at."""
    if request.dataset_versions:
        named = [registry.GetDatasetVersion(GetDatasetVersionRequest(name=name)) for name in request.dataset_versions]
        return [(version.name, version.digest) for version in named]
    found = []
    datasets = _pages(registry.ListDatasets, ListDatasetsRequest(parent=request.parent), "datasets")
    for dataset in datasets:
        listed = _pages(
            registry.ListDatasetVersions, ListDatasetVersionsRequest(parent=dataset.name), "dataset_versions"
        )
        found += [(version.name, version.digest) for version in listed]
    return found


def _adapters(registry: Any, project: str) -> Mapping[str, list[str]]:
    """The adapter versions that were trained on each dataset version."""
    trained: dict[str, list[str]] = {}
    for adapter in _pages(registry.ListAdapters, ListAdaptersRequest(parent=project), "adapters"):
        listed = ListAdapterVersionsRequest(parent=adapter.name)
        for version in _pages(registry.ListAdapterVersions, listed, "adapter_versions"):
            for name in version.dataset_versions:
                trained.setdefault(name, []).append(version.name)
    return trained


def _pages(call: Callable[[Any], Any], request: Any, field: str) -> Iterator[Any]:
    request.page_size = PAGE
    while True:
        page = call(request)
        yield from getattr(page, field)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
