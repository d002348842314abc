"""Outcomes as rows of a dataset version: kept, removed with their reason, or quarantined with their cause."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from anneal.kit.datasets import DatasetWriter
from anneal.kit.records import conversation, quarantine_table, quarantined, removed_schema, to_table
from anneal.synthesis.domain.rows import Draft, Malformed, Outcome, Removed

BATCH_ROWS = 1_000


def encode_row(draft: Draft) -> dict[str, Any]:
    """A kept row in the columns of a conversation."""
    return conversation(
        [asdict(message) for message in draft.messages],
        source=draft.source,
        parents=draft.parents,
        origin=draft.origin,
        scores=draft.scores,
    )


def row_id(draft: Draft) -> str:
    """The id the row has in a dataset."""
    return str(encode_row(draft)["id"])


def encode_removed(removed: Removed) -> dict[str, Any]:
    """A removed row with step, reason, numbers and what it repeats."""
    return {
        **encode_row(removed.draft),
        "removed_step": removed.step,
        "removed_reason": removed.reason,
        "removed_numbers": json.dumps(dict(removed.numbers), sort_keys=True),
        "removed_duplicate_of": removed.duplicate_of,
    }


def encode_malformed(malformed: Malformed) -> dict[str, Any]:
    """A quarantined candidate."""
    return quarantined(
        malformed.file,
        byte_offset=malformed.byte_offset,
        cause=malformed.cause,
        reason=malformed.reason,
        raw=malformed.raw,
    )


class DatasetSink:
    """Takes outcomes one by one and writes them in batches.

    Attributes:
        counts: rows by (verdict, reason).
    """

    def __init__(self, writer: DatasetWriter, count: Callable[[str, str, int], None]) -> None:
        """Make a sink.

        Args:
            writer: of a conversation dataset.
            count: told verdict, reason and rows of every batch.
        """
        self.counts: Counter[tuple[str, str]] = Counter()
        self._writer, self._tell = writer, count
        self._waiting: dict[str, list[dict[str, Any]]] = {"rows": [], "removed": [], "quarantined": []}
        self._told: Mapping[tuple[str, str], int] = {}

    @property
    def rows_in(self) -> int:
        """Everything that came in."""
        return sum(self.counts.values())

    @property
    def kept(self) -> int:
        """Rows that stay."""
        return self.counts["kept", ""]

    def add(self, outcome: Outcome) -> None:
        """Take one outcome."""
        if isinstance(outcome, Draft):
            self._put("rows", encode_row(outcome), "kept", "")
        elif isinstance(outcome, Removed):
            self._put("removed", encode_removed(outcome), "removed", outcome.reason)
        else:
            self._put("quarantined", encode_malformed(outcome), "quarantined", outcome.cause)

    def flush(self) -> None:
        """Write what waits."""
        kept, removed, bad = (self._waiting[part] for part in ("rows", "removed", "quarantined"))
        self._writer.add(to_table("conversation", kept))
        self._writer.add(pa.Table.from_pylist(removed, schema=removed_schema("conversation")), part="removed")
        self._writer.add(quarantine_table(bad), part="quarantined")
        for rows in self._waiting.values():
            rows.clear()
        for key, number in self.counts.items():
            self._tell(*key, number - self._told.get(key, 0))
        self._told = dict(self.counts)

    def _put(self, part: str, row: dict[str, Any], verdict: str, reason: str) -> None:
        self._waiting[part].append(row)
        self.counts[verdict, reason] += 1
        if sum(map(len, self._waiting.values())) >= BATCH_ROWS:
            self.flush()
