"""The commands about what rows and benchmarks have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from anneal.cli.app import Session, app
from anneal.cli.resources import Name
from anneal.cli.work import read_message
from anneal.v1 import contamination_pb2 as pb

contamination = typer.Typer(no_args_is_help=True, help="What rows and benchmarks have in common.")
app.add_typer(contamination, name="contamination")

COLUMNS = ("benchmark", "items", "rows", "how they were found")


@contamination.command()
def report(context: typer.Context, version: Name) -> None:
    """Tell what decontamination took out of a dataset version, with examples."""
    session: Session = context.obj
    name = session.version("datasets", version)
    found = session.client().curation.GetContaminationReport(pb.GetContaminationReportRequest(dataset_version=name))
    if session.output.as_json:
        session.output.message(found)
        return
    if not found.decontaminated:
        session.output.line(f"{found.dataset_version} was compared with no benchmark")
        return
    if not found.benchmarks:
        session.output.line(f"{found.dataset_version}: no row held an item of a benchmark")
        return
    _show(session, found.benchmarks)


@contamination.command()
def check(
    context: typer.Context,
    benchmark: Annotated[list[str] | None, typer.Option(help="Benchmark to look for; all when none is named.")] = None,
    version: Annotated[
        list[str] | None, typer.Option(help="Dataset version to look at; all when none is named.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="YAML file with `params` of the comparison.", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Tell which dataset versions, and which adapters, hold items of benchmarks."""
    session: Session = context.obj
    client = session.client()
    order = pb.CheckContaminationRequest()
    request = order if settings is None else read_message(settings, order)
    request.parent = client.parent
    request.benchmarks.extend(session.name("benchmarks", name) for name in benchmark or ())
    request.dataset_versions.extend(session.version("datasets", name) for name in version or ())
    found = pb.CheckContaminationResponse()
    with session.output.job("check_contamination") as watcher:
        client.run(client.curation.CheckContamination, request, "check_contamination", found, watcher)
    if session.output.as_json:
        session.output.message(found)
        return
    count = f"{found.checked_version_count} dataset versions, {len(found.benchmarks)} benchmarks"
    session.output.line(f"{count}: {len(found.versions) or 'no'} versions hold items")
    for one in found.versions:
        session.output.line("")
        session.output.line(one.dataset_version)
        for adapter in one.adapter_versions:
            session.output.line(f"  trained on it: {adapter}")
        _show(session, one.benchmarks)


def _show(session: Session, benchmarks: Sequence[pb.BenchmarkContamination]) -> None:
    rows = []
    for one in benchmarks:
        how = ", ".join(f"{reason} {count:,}" for reason, count in sorted(one.row_counts.items()))
        rows.append((one.benchmark, f"{one.item_count:,}", f"{one.row_count:,}", how))
    session.output.table(COLUMNS, rows, shorten=(COLUMNS[-1],))
    for one in benchmarks:
        for example in one.examples:
            session.output.line("")
            session.output.line(f"{example.reason}: row {example.row_id[:12]} and item {example.item_id[:12]}")
            session.output.line(f"  row:    {example.row_excerpt}")
            session.output.line(f"  item:   {example.item_excerpt}")
            if example.shared_words:
                session.output.line(f"  shared: {example.shared_words}")
