"""What is looked at in the rows of a piece: what every run needs of them, and what steps say of each row by itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.steps.base import Assigner, Removal, Removals, Rewriter, RowFilter
from anneal.curation.domain.texts import conversations_of, is_preference, whole_of
from anneal.kit.records import row_id
from anneal.kit.shards import row_bytes

DIGEST_LETTERS, ID_BYTES = 64, 16
"""So much of an id decides its place in an order: 64 bits of a digest in hex, which two of ten million share by chance
once in 300,000 datasets; their sources decide then."""
VERDICTS = pa.schema(
    [("place", pa.int32()), ("reason", pa.string()), ("numbers", pa.string()), ("duplicate_of", pa.string())]
)


def identify(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Id of each row, which comparisons need of rows that are repeated."""
    return batch.select(["id"])


def locate(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Source of each row, which comparisons need of rows with equal ids; few sources have many rows."""
    return pa.RecordBatch.from_arrays([batch.column("source").dictionary_encode()], ["source"])


def measure(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Size of each row in bytes, and the first half of its id as two numbers: files are cut by them."""
    size = row_bytes(pa.Table.from_batches([batch])).cast(pa.int64())
    halves = leading(batch.column("id"))
    columns = [size, *(pa.array(np.ascontiguousarray(halves[:, half])) for half in range(2))]
    return pa.RecordBatch.from_arrays(columns, names=["bytes", "high", "low"])


def leading(ids: pa.Array) -> NDArray[np.uint64]:
    """The first `ID_BYTES` of each id as two numbers that stand in the order of the bytes, shape (rows, 2)."""
    if pc.all(pc.equal(pc.fill_null(pc.binary_length(ids), 0), DIGEST_LETTERS), min_count=0).as_py():
        _, bounds, data = ids.buffers()
        first = np.frombuffer(bounds, dtype=np.int32)[ids.offset] if len(ids) else 0
        octets = np.frombuffer(data, dtype=np.uint8)[first:] if len(ids) else np.zeros(0, dtype=np.uint8)
        octets = octets[: len(ids) * DIGEST_LETTERS].reshape(-1, DIGEST_LETTERS)[:, :ID_BYTES]
        return np.ascontiguousarray(octets).view(">u8").astype(np.uint64)
    padded = pc.utf8_slice_codeunits(pc.utf8_rpad(pc.fill_null(ids, ""), ID_BYTES, "\0"), 0, ID_BYTES)
    fixed = pc.binary_slice(padded.cast(pa.binary()), 0, ID_BYTES).cast(pa.binary(ID_BYTES))
    octets = np.frombuffer(fixed.buffers()[1], dtype=np.uint8)[fixed.offset * ID_BYTES :][: len(ids) * ID_BYTES]
    return octets.reshape(-1, 2, 8).view(">u8").reshape(-1, 2).astype(np.uint64)


def judged(step: RowFilter, batch: pa.RecordBatch) -> Removals:
    """The rows that leave. A preference does where a conversation of its prompt and one of its answers would.

    An unwanted answer may be as bad as it likes: a filter that is about how good answers are has a `judge_unwanted`,
    which says what is wrong with such a row all the same.
    """
    if not is_preference(batch):
        return step.judge(batch)
    removals: dict[int, Removal] = {}
    for side, conversations, rows in conversations_of(batch):
        judge = step.judge if side == "chosen" else getattr(step, "judge_unwanted", step.judge)
        for place, why in judge(conversations).items():
            removals.setdefault(int(rows[place]), why)
    return removals


@dataclass(frozen=True, slots=True)
class Judging:
    """The verdicts of a filter, one row for each row that leaves."""

    step: RowFilter

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Judge rows."""
        removals = sorted(judged(self.step, batch).items())
        numbers = [json.dumps(dict(why.numbers), sort_keys=True, ensure_ascii=False) for _, why in removals]
        columns = [
            [place for place, _ in removals],
            [why.reason for _, why in removals],
            numbers,
            [why.duplicate_of for _, why in removals],
        ]
        arrays = [pa.array(values, type=field.type) for values, field in zip(columns, VERDICTS, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=VERDICTS)


@dataclass(frozen=True, slots=True)
class Assigning:
    """The split of each row."""

    step: Assigner

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Assign rows."""
        splits = pa.array(list(self.step.assign(batch)), type=pa.string()).dictionary_encode()
        return pa.RecordBatch.from_arrays([splits], names=["split"])


@dataclass(frozen=True, slots=True)
class Rewriting:
    """The rows that a rewrite changes, and their places. One with another content has a new id, and knows its old."""

    step: Rewriter

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rewrite rows."""
        fresh = self.step.rewrite(batch)
        is_new = _differ(whole_of(fresh), whole_of(batch))
        differs = is_new.copy()
        for name in batch.schema.names:
            if pa.types.is_string(batch.schema.field(name).type):
                differs |= _differ(fresh.column(name), batch.column(name))
        places = np.flatnonzero(differs)
        rows = fresh.take(pa.array(places)).to_pylist()
        for row, place in zip(rows, places.tolist(), strict=True):
            if is_new[place]:
                _give_id(row)
            row["place"] = place
        return pa.RecordBatch.from_pylist(rows, schema=batch.schema.append(pa.field("place", pa.int32())))


def _differ(some: pa.Array, others: pa.Array) -> NDArray[np.bool_]:
    differ = pc.not_equal(pc.fill_null(some, ""), pc.fill_null(others, ""))
    found: NDArray[np.bool_] = differ.to_numpy(zero_copy_only=False)
    return found


def _give_id(row: dict[str, Any]) -> None:
    old = row["id"]
    if "messages" in row:
        row["id"] = row_id("preference" if "chosen" in row else "conversation", row)
        row["parents"] = [*(row["parents"] or []), old]
        return
    row["id"] = row_id("document", row)
    meta = json.loads(row["meta"] or "{}")
    row["meta"] = json.dumps({**meta, "rewritten_from": old}, sort_keys=True, ensure_ascii=False)
