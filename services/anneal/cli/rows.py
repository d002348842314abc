"""Commands for rows on their way in and out: ingest files, export dataset versions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from anneal.cli.app import Session, app
from anneal.cli.resources import Name, datasets
from anneal.cli.work import AllowEmpty, Dataset, read_message, run_job
from anneal.kit.exporters import EXPORTERS, lines_of
from anneal.kit.exporters.base import Exporter, Losses
from anneal.v1 import dataset_pb2
from anneal.v1 import ingestion_service_pb2 as ingestion
from anneal.v1 import registry_service_pb2 as registry

PAGE_ROWS = 1000
_KINDS = {
    "document": dataset_pb2.DATASET_KIND_DOCUMENT,
    "conversation": dataset_pb2.DATASET_KIND_CONVERSATION,
    "preference": dataset_pb2.DATASET_KIND_PREFERENCE,
}


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    """Options such as `name=value` as a mapping."""
    pairs = [one.partition("=") for one in given or ()]
    for name, equals, value in pairs:
        if not (name.strip() and equals and value.strip()):
            raise typer.BadParameter(f"{option} {name}{equals}{value} is not such as name=value")
    return {name.strip(): value.strip() for name, _, value in pairs}


@app.command()
def ingest(
    context: typer.Context,
    dataset: Dataset,
    files: Annotated[list[Path], typer.Argument(help="Files or archives.", exists=True, dir_okay=False)],
    rows: Annotated[bool, typer.Option("--rows", help="The file holds examples, not documents.")] = False,
    format: Annotated[str, typer.Option(help="Row format with --rows; detected when empty.")] = "",
    include: Annotated[list[str] | None, typer.Option(help="Glob of paths that count.")] = None,
    license: Annotated[str, typer.Option(help="SPDX id written into every row.")] = "",
    chunk: Annotated[int, typer.Option(help="Cut documents into chunks of at most this many characters.", min=0)] = 0,
    chunk_min: Annotated[
        int, typer.Option(help="Join chunks shorter than this to a neighbour; at most half of --chunk.", min=0)
    ] = 0,
    recipe: Annotated[
        Path | None, typer.Option(help="YAML with fields of ImportDatasetRequest, with --rows.", exists=True)
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="With --rows, which column is what: prompt=question. Repeat it.")
    ] = None,
    placeholder: Annotated[
        list[str] | None, typer.Option(help="With --rows, what stands at a placeholder: NAME=Lumi. Repeat it.")
    ] = None,
    allow_empty: AllowEmpty = False,
) -> None:
    """Upload files (text, Markdown, HTML, PDF, .docx, EPUB, or archives of them) and turn them into a dataset."""
    if chunk_min and not chunk:
        raise typer.BadParameter("--chunk-min is for documents that are cut, with --chunk")
    session: Session = context.obj
    client = session.client()
    uploads = [client.upload(path, path.name).name for path in files]
    made = dataset_pb2.DatasetVersion()
    if rows:
        if len(uploads) != 1:
            raise typer.BadParameter("--rows takes one file")
        order = ingestion.ImportDatasetRequest()
        if recipe is not None:
            read_message(recipe, order)
        order.MergeFrom(
            ingestion.ImportDatasetRequest(
                parent=client.parent,
                dataset_id=dataset,
                upload=uploads[0],
                format=format,
                license=license,
                columns=_pairs(column, "--column"),
                placeholders=_pairs(placeholder, "--placeholder"),
                allow_empty=allow_empty,
            )
        )
        run_job(session, "import", client.ingestion.ImportDataset, order, "import", made)
        return
    request = ingestion.IngestDocumentsRequest(
        parent=client.parent,
        dataset_id=dataset,
        uploads=uploads,
        include=include or [],
        license=license,
        allow_empty=allow_empty,
    )
    if chunk:
        request.chunking.max_characters = chunk
        request.chunking.min_characters = chunk_min
    run_job(session, "ingest", client.ingestion.IngestDocuments, request, "ingest", made)


@datasets.command("export")
def export(
    context: typer.Context,
    version: Name,
    folder: Annotated[Path, typer.Argument(help="Folder for one file a split; made where it is missing.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(EXPORTERS)}.")],
    split: Annotated[str, typer.Option(help="Only this split.")] = "",
) -> None:
    """Write the rows of a dataset version in a format that `ingest --rows` reads; the same version, the same bytes."""
    session: Session = context.obj
    client = session.client()
    name = session.version("datasets", version)
    found = client.registry.GetDatasetVersion(registry.GetDatasetVersionRequest(name=name))
    exporter = _exporter(format, found)
    splits = sorted(found.split_row_counts)
    if split and split not in splits:
        raise typer.BadParameter(f"{found.name} has no split {split!r}; it has {', '.join(splits) or 'none'}")
    files = {one: folder / f"{one}{exporter.suffix}" for one in ([split] if split else splits)}
    if present := [str(path) for path in files.values() if path.exists()]:
        raise typer.BadParameter(f"{present[0]} is there already: name another folder, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    losses, rows = Losses(), 0
    for one, path in files.items():
        _write(path, exporter, _rows(client, found.name, one), losses)
        rows += found.split_row_counts[one]
    _tell(session, files, rows, losses)


def _exporter(format: str, version: dataset_pb2.DatasetVersion) -> Exporter:
    """The exporter of a format, which must hold rows of the version's kind."""
    fitting = [name for name, one in EXPORTERS.items() if _KINDS[one.kind] == version.kind]
    if format not in fitting:
        kind = dataset_pb2.DatasetKind.Name(version.kind).removeprefix("DATASET_KIND_").lower()
        raise typer.BadParameter(f"{format!r} holds no {kind} rows; these do: {', '.join(fitting)}")
    return EXPORTERS[format]


def _rows(client: Any, version: str, split: str) -> Iterator[dict[str, Any]]:
    request = registry.ReadRowsRequest(dataset_version=version, split=split, page_size=PAGE_ROWS)
    for row in client.pages(client.registry.ReadRows, request, "rows"):
        yield json.loads(row.json)


def _write(path: Path, exporter: Exporter, rows: Iterator[dict[str, Any]], losses: Losses) -> None:
    """Write a file whole, or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w", encoding="utf-8", newline="") as file:
        file.writelines(lines_of(exporter, rows, losses))
    fresh.replace(path)


def _tell(session: Session, files: dict[str, Path], rows: int, losses: Losses) -> None:
    left_out, fields = dict(losses.rows.most_common()), {name: n for name, n in losses.fields.most_common() if n}
    if session.output.as_json:
        written = {split: str(path) for split, path in files.items()}
        session.output.json({"files": written, "rows": rows, "rows_left_out": left_out, "fields_left_out": fields})
        return
    for path in files.values():
        session.output.line(str(path))
    session.output.line(f"{rows - losses.rows.total()} of {rows} rows written")
    for what, count in left_out.items():
        session.output.line(f"left out: {count} rows with {what}, which the format cannot hold")
    for what, count in fields.items():
        session.output.line(f"not written: {what} of {count} rows or turns, which the format cannot hold")
