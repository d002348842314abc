"""Rebuild an empty registry from the self-descriptions in the object store: `python -m anneal.registry.rebuild`."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from anneal.kit.errors import BackendFault, Refusal
from anneal.kit.settings import read_settings
from anneal.kit.store import Store
from anneal.registry import codec
from anneal.registry.adapters.shelf import Shelf
from anneal.registry.adapters.sql.catalog import Catalog
from anneal.registry.adapters.sql.transactions import Writer
from anneal.registry.domain.errors import NotEmpty
from anneal.registry.domain.resources import FAMILY_OF, Kind, Record
from anneal.registry.settings import Settings
from anneal.registry.usecases.deployments import pass_gate
from anneal.v1.deployment_pb2 import Deployment

_ORDER = {kind: number for number, kind in enumerate(Kind)}
"""`Kind` lists families before their versions, and what is used before what uses it."""

NOT_OURS = ("trainings/", "answers/")
"""Records below these folders describe nothing that has a name: work of operations that did not succeed."""


@dataclass(slots=True)
class Report:
    """What came back, by kind, and what did not: the record's path and why."""

    kept: Counter[str] = field(default_factory=Counter)
    left_out: list[tuple[str, str]] = field(default_factory=list)


async def rebuild(catalog: Catalog, store: Store) -> Report:
    """Fill an empty registry with the newest state of everything the store describes, in one transaction.

    A name comes back only when what it stands for is whole: the manifest balances, the files are there, and a
    deployment passes the gate again. Answers to request ids do not come back.

    Raises:
        NotEmpty: there is something in the registry.
    """
    report = Report()
    notes = await asyncio.to_thread(lambda: [note for note in store.records() if not note[0].startswith(NOT_OURS)])
    records = []
    shelf = Shelf(store)
    for record, path in newest(notes, report):
        try:
            await _check_stored(shelf, record)
        except Refusal as refusal:
            report.left_out.append((path, str(refusal)))
        else:
            records.append((record, path))

    async def unit(tx: Writer) -> Report:
        if not await tx.is_empty():
            raise NotEmpty("the registry is not empty; a rebuild would mix two histories")
        for record, path in records:
            try:
                await _check_named(tx, record)
            except Refusal as refusal:
                report.left_out.append((path, str(refusal)))
            else:
                await tx.create(record)
                report.kept[record.kind.value] += 1
        return report

    return await catalog.change(unit)


def newest(notes: Iterable[tuple[str, Any]], report: Report) -> list[tuple[Record, str]]:
    """The newest state of every name, with the path it was read from, in the order in which they can be created."""
    found: dict[str, tuple[Record, str, bool]] = {}
    for path, note in notes:
        try:
            if not isinstance(note, Mapping):
                raise ValueError("not a record")
            record = codec.record_of_note(note)
        except (ValueError, KeyError, TypeError) as error:
            report.left_out.append((path, str(error)))
            continue
        if record.name not in found or found[record.name][0].revision < record.revision:
            found[record.name] = (record, path, bool(note.get("deleted")))
    alive = [(record, path) for record, path, is_deleted in found.values() if not is_deleted]
    return sorted(alive, key=lambda pair: (_ORDER[pair[0].kind], pair[0].create_time, pair[0].name))


async def _check_stored(shelf: Shelf, record: Record) -> None:
    """Check that the bytes a record stands for are whole."""
    digest = str(record.facts.get("digest", ""))
    if record.kind is Kind.DATASET_VERSION:
        await shelf.manifest(digest)
    elif digest:
        await shelf.check_files(digest, record.name)


async def _check_named(tx: Writer, record: Record) -> None:
    """Check that what a record uses came back too, and that a deployment passes the gate."""
    if record.kind in FAMILY_OF:
        await tx.get(FAMILY_OF[record.kind], record.name.rsplit("/", 2)[0])
    for kind, column in ((Kind.MODEL, "base_model"), (Kind.DATASET_VERSION, "dataset_version")):
        if column in record.facts:
            await tx.get(kind, str(record.facts[column]))
    if record.kind is Kind.DEPLOYMENT:
        await pass_gate(tx, Deployment.FromString(record.body))


async def _main() -> int:
    settings = read_settings(Settings)
    store = Store(settings.store_url(), settings.data_dir / "cache", settings.store.options)
    catalog = Catalog(settings.sql_url("registry"), migrates=settings.registry.migrates)
    try:
        report = await rebuild(catalog, store)
    except (NotEmpty, BackendFault) as refusal:
        sys.stderr.write(f"rebuild: {refusal}\n")
        return 2
    finally:
        await catalog.close()
    for kind in Kind:
        sys.stdout.write(f"{kind.words:>16}: {report.kept[kind.value]}\n")
    for path, why in report.left_out:
        sys.stderr.write(f"left out {path}: {why}\n")
    return 1 if report.left_out else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
