"""For tests: a real server of any services on a random loopback port, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from anneal.kit.options import JobOptions
from anneal.kit.rpc.server import Build, Host
from anneal.kit.settings import ServiceSettings

ALL = ("registry", "ingestion", "synthesis", "curation", "training", "serving", "evaluation")


@asynccontextmanager
async def hosted(
    folder: Path, builds: Sequence[Build], *, settings: ServiceSettings | None = None, local: Sequence[str] = ALL
) -> AsyncIterator[Host]:
    """A running host whose services find each other on it; stopped at the end, also on failure.

    Args:
        folder: data folder; the same one again continues where it was.
        builds: `bootstrap.build` of each service, with its options bound.
        settings: other settings than the defaults for tests.
        local: services that are looked for on this host; the settings hold the addresses of the others.
    """
    if settings is None:
        settings = ServiceSettings(data_dir=folder, jobs=JobOptions(lease_s=10, backoff_s=0.05))
    host = Host(settings, builds, local=local)
    await host.start()
    try:
        yield host
    finally:
        await host.stop()
