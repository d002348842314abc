"""Where the rows of a job go: into the parts of a dataset, counted, with the manifest at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from anneal.ingestion.domain.errors import NothingToIngest
from anneal.kit import records
from anneal.kit.datasets import DatasetWriter
from anneal.kit.jobs.context import JobContext
from anneal.kit.publishing import unpublished_version
from anneal.kit.records import RecordKind
from anneal.v1 import dataset_pb2

BATCH_ROWS = 512
SHOWN_CAUSES, SHOWN_CHARACTERS = 3, 300
"""So many reasons are shown where every row was quarantined, the commonest first, each with the cause of one row."""


class Sink:
    """Gathers rows into batches and counts them."""

    def __init__(self, ctx: JobContext, kind: RecordKind, splits: Mapping[str, str] | None = None) -> None:
        """Begin a version.

        Args:
            ctx: the job.
            kind: what its rows are.
            splits: `file -> the split of its rows`; `train` where it names none.
        """
        self._ctx, self._kind, self._splits = ctx, kind, splits or {}
        self.writer = DatasetWriter(ctx.store, kind)
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._bad: list[dict[str, Any]] = []
        self._reasons: Counter[str] = Counter()
        self._all_reasons: Counter[str] = Counter()
        self._causes: dict[str, str] = {}
        self.kept = 0
        self.quarantined = 0

    def keep(self, row: dict[str, Any], file: str = "") -> None:
        """Take a row that can be used; `file` is where it is from."""
        rows = self._rows.setdefault(self._splits.get(file, "train"), [])
        rows.append(row)
        self.kept += 1
        if len(rows) >= BATCH_ROWS:
            self.flush()

    def quarantine(self, row: dict[str, Any]) -> None:
        """Take a row that cannot be read, with its cause."""
        self._bad.append(row)
        self._reasons[row["reason"]] += 1
        self._all_reasons[row["reason"]] += 1
        self._causes.setdefault(row["reason"], f"{row['file']}, line {row['line']}: {row['cause']}")
        self.quarantined += 1
        if len(self._bad) >= BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Hand over what is waiting."""
        for split, rows in sorted(self._rows.items()):
            self.writer.add(records.to_table(self._kind, rows), split=split)
            self._ctx.count("rows", len(rows), verdict="kept", reason="")
        if self._bad:
            self.writer.add(records.quarantine_table(self._bad), part="quarantined")
        for reason, n in self._reasons.items():
            self._ctx.count("rows", n, verdict="quarantined", reason=reason)
        self._rows, self._bad = {}, []
        self._reasons.clear()

    def finish(self, request: Any, operation: str) -> dataset_pb2.DatasetVersion:
        """Write the manifest.

        Raises:
            NothingToIngest: not one row was kept, and the order does not allow that.
        """
        self.flush()
        if not self.kept and not request.allow_empty:
            raise NothingToIngest(self._nothing(), quarantined=str(self.quarantined))
        order = json_format.MessageToDict(request, preserving_proto_field_name=True)
        for key in ("request_id", "parent", "dataset_id", "allow_empty"):
            order.pop(key, None)
        if not self.kept:
            self._ctx.log(f"the version is empty: {self._nothing()}", level="warning")
        manifest = self.writer.finish(rows_in=self.kept + self.quarantined, steps=[order])
        return unpublished_version(manifest, request, operation)

    def _nothing(self) -> str:
        """What is to be said where no row was kept."""
        if not self.quarantined:
            return "nothing became a row: no row was found"
        return (
            f"nothing became a row: {self.quarantined} were quarantined and no other was found: "
            f"{commonest(self._all_reasons, self._causes)}. With `allow_empty` the version is made all the same, "
            "and the quarantined rows can be read in it"
        )


def commonest(reasons: Counter[str], causes: Mapping[str, str]) -> str:
    """The commonest reasons why rows were quarantined, how many each, and the cause of one row with it."""
    common = reasons.most_common(SHOWN_CAUSES)
    return "; ".join(f"{n} {reason} ({causes[reason][:SHOWN_CHARACTERS]})" for reason, n in common)
