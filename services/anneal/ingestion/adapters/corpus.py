"""Documents straight from an archive, without any service: for examples, benchmarks and notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from anneal.ingestion.adapters.archives import members
from anneal.ingestion.adapters.parsers import PARSERS, media_type_of
from anneal.ingestion.domain.documents import ParsedDocument
from anneal.ingestion.domain.limits import ArchiveLimits


def documents_from_archive(path: Path) -> Iterator[ParsedDocument]:
    """Parse every file of an archive that a parser reads, in the archive's order; empty pages are left out.

    Raises:
        ArchiveRefused: the archive cannot be read or goes beyond the default limits.
    """
    for uri, data in members(path, ArchiveLimits()):
        media_type = media_type_of(data, uri)
        if media_type is not None:
            document = PARSERS[media_type](data, uri)
            if document.text:
                yield document
