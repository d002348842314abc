"""The command that looks a dataset version over: as text, as JSON, or as a page with plots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anneal.cli.app import Session
from anneal.cli.resources import Name, datasets
from anneal.cli.work import read_message
from anneal.v1 import curation_service_pb2 as pb
from anneal.v1.registry_service_pb2 import GetDatasetVersionRequest


@datasets.command("explore")
def explore(
    context: typer.Context,
    version: Name,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots here.", dir_okay=False)] = None,
    sample: Annotated[int, typer.Option(help="Most rows to embed, cluster and draw; 0: 10,000.", min=0)] = 0,
    topics: Annotated[int, typer.Option(help="Most topics; 0: as many as go with the rows.", min=0)] = 0,
    settings: Annotated[
        Path | None,
        typer.Option(
            help="YAML file with `encoder`, `labeler` and the rest of the order.", exists=True, dir_okay=False
        ),
    ] = None,
) -> None:
    """Look a dataset version over: counts, duplicates, languages, topics and a map."""
    session: Session = context.obj
    client = session.client()
    request = pb.ExploreDatasetRequest() if settings is None else read_message(settings, pb.ExploreDatasetRequest())
    # By its full name: an overview of what was the latest version once is not asked for.
    found = client.registry.GetDatasetVersion(GetDatasetVersionRequest(name=session.version("datasets", version)))
    request.dataset_version = found.name
    request.sample_rows = sample or request.sample_rows
    request.topics = topics or request.topics
    overview = pb.DatasetOverview()
    with session.output.job("explore") as watcher:
        client.run(client.curation.ExploreDataset, request, "explore", overview, watcher)
    if html is not None:
        from anneal.cli.overview.page import write

        write(overview, html)
    if session.output.as_json:
        session.output.message(overview)
        return
    from anneal.cli.overview.text import lines_of

    for line in lines_of(overview):
        session.output.line(line)
    if html is not None:
        session.output.line(f"page: {html}")
