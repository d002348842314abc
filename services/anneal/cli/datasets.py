"""Commands that bring datasets in from the Hugging Face Hub, and publish them there."""

from __future__ import annotations

import uuid
from typing import Annotated

import typer

from anneal.cli.app import Session
from anneal.cli.base_models import HUB
from anneal.cli.resources import Name, datasets
from anneal.v1 import dataset_pb2
from anneal.v1 import ingestion_service_pb2 as ingestion

HubId = Annotated[str, typer.Argument(metavar="HUB_ID", help="hub:OWNER/NAME[@REVISION]; `hub:` may be left out.")]


@datasets.command("pull")
def pull(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="Id of the dataset that gets the new version.")],
    hub_id: HubId,
    subset: Annotated[str, typer.Option(help="Subset (configuration); the only or the default one when empty.")] = "",
    split: Annotated[str, typer.Option(help="Splits or slices: train, train[:1000], train[:10%]+test; all.")] = "",
    format: Annotated[str, typer.Option(help="Row format; detected when empty.")] = "",
    license: Annotated[str, typer.Option(help="SPDX id written into every document row.")] = "",
) -> None:
    """Import a dataset of the Hub, at one commit; splits stay apart, and bad rows are quarantined by name.

    The server's job reads it, with the server's own token (HF_TOKEN) for private and gated ones.
    """
    session: Session = context.obj
    client = session.client()
    request = ingestion.ImportDatasetRequest(
        parent=client.parent,
        dataset_id=dataset,
        hub_id=hub_id.removeprefix(HUB),
        hub_config=subset,
        hub_split=split,
        format=format,
        license=license,
    )
    request.request_id = str(uuid.uuid4())  # always a new job: what the Hub has now is what is asked for
    made = dataset_pb2.DatasetVersion()
    with session.output.job(f"pull {request.hub_id}") as watcher:
        operation = client.wait_or_cancel(client.ingestion.ImportDataset(request).name, watcher)
    operation.response.Unpack(made)
    session.output.message(made)


@datasets.command("push")
def push(
    context: typer.Context,
    version: Name,
    hub_id: HubId,
    license: Annotated[str, typer.Option(help="Licence on the card, in the Hub's words, such as apache-2.0.")] = "",
    public: Annotated[bool, typer.Option("--public", help="A repository that is created is public.")] = False,
) -> None:
    """Publish a dataset version on the Hub: its rows in Parquet, split by split, and a dataset card.

    The server's job writes it, under an owner that its settings name (ingestion.hub_owners), with its own token.
    """
    session: Session = context.obj
    client = session.client()
    request = ingestion.PushDatasetRequest(
        parent=client.parent,
        dataset_version=session.version("datasets", version),
        hub_id=hub_id.removeprefix(HUB),
        license=license,
        public=public,
        request_id=str(uuid.uuid4()),
    )
    made = ingestion.PushedDataset()
    with session.output.job(f"push {request.hub_id}") as watcher:
        operation = client.wait_or_cancel(client.ingestion.PushDataset(request).name, watcher)
    operation.response.Unpack(made)
    session.output.message(made)
