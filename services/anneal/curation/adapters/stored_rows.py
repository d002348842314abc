"""Dataset versions as the engine's source and sink."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pyarrow as pa

from anneal.curation.domain.engine import Verdict
from anneal.kit.datasets import DatasetReader, DatasetWriter
from anneal.kit.records import REMOVED_FIELDS

BATCH_ROWS = 4096


class StoredRows:
    """The kept rows of dataset versions, one version after the other."""

    def __init__(self, readers: Sequence[DatasetReader], batch_rows: int = BATCH_ROWS) -> None:
        """Read versions.

        Args:
            readers: of versions of one kind.
            batch_rows: most rows in memory; changes nothing else.
        """
        self._readers, self._batch_rows = readers, batch_rows

    @property
    def count(self) -> int:
        """Rows in all."""
        return sum(reader.manifest.rows_out for reader in self._readers)

    def read(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        """All rows with their splits."""
        for reader in self._readers:
            for shard in reader.shards():
                for batch in reader.shard_batches(shard, batch_rows=self._batch_rows):
                    yield shard.split, batch


class DatasetSink:
    """Writes kept and removed rows into one new version."""

    def __init__(self, writer: DatasetWriter) -> None:
        self._writer = writer

    def keep(self, batch: pa.RecordBatch, split: str) -> None:
        """Write rows that stay."""
        self._writer.add(batch, split=split)

    def remove(self, batch: pa.RecordBatch, verdicts: Sequence[Verdict]) -> None:
        """Write rows that leave, with step, reason, numbers and the row they repeat."""
        columns = [
            [verdict.step for verdict in verdicts],
            [verdict.removal.reason for verdict in verdicts],
            [json.dumps(dict(verdict.removal.numbers), sort_keys=True, ensure_ascii=False) for verdict in verdicts],
            [verdict.removal.duplicate_of for verdict in verdicts],
        ]
        table = pa.Table.from_batches([batch])
        for field, values in zip(REMOVED_FIELDS, columns, strict=True):
            table = table.append_column(field, pa.array(values, type=field.type))
        self._writer.add(table, part="removed")
