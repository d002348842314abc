"""How an import reads a dataset of the Hub: at one commit in all attempts, which the request then names."""

from __future__ import annotations

from collections.abc import Iterator

from anneal.ingestion.adapters.hub import check_hub_id, open_dataset
from anneal.ingestion.adapters.hub_rows import HubRows, Located, ReadFile
from anneal.ingestion.settings import IngestionOptions
from anneal.kit.jobs.context import JobContext
from anneal.v1 import ingestion_service_pb2 as pb


def read_from_hub(
    ctx: JobContext, request: pb.ImportDatasetRequest, options: IngestionOptions, read: ReadFile
) -> tuple[Iterator[Located], dict[str, str]]:
    """The rows that an import asks for, and `file -> split`.

    The request's `hub_id` becomes `owner/name@commit`, so that what is published says which rows it holds.

    Raises:
        Refusal: the Hub does not give the dataset, or has no such subset or split.
    """
    name, _ = check_hub_id(request.hub_id)
    folder = ctx.scratch / "hub"
    folder.mkdir(parents=True, exist_ok=True)
    pinned = folder / "commit"
    hub_id = f"{name}@{pinned.read_text()}" if pinned.exists() else request.hub_id
    ctx.progress(0, None, "rows", f"asking the Hub for {hub_id}")
    dataset = open_dataset(hub_id, request.hub_config, folder / "cache")
    pinned.write_text(dataset.commit)
    request.hub_id = f"{name}@{dataset.commit}"
    hub = HubRows(dataset, folder / "files", read, options.archive_limits())
    slices = hub.slices(request.hub_split)
    for each in slices:
        rows = "all rows" if each.start == 0 and each.end > 1 << 60 else f"rows {each.start} to {each.end}"
        ctx.log(f"{rows} of split {each.split} of {name} ({dataset.config}) become split {each.ours}")
    return hub.rows(slices), hub.splits(slices)
