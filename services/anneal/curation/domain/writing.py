"""The end of a run: files are planned from the fates of rows, and those that are not there yet are written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.ledger import Ledger
from anneal.curation.domain.output import File, Segment, assemble, cut
from anneal.curation.domain.pieces import key_of
from anneal.curation.domain.workbench import MEASURE, Workbench
from anneal.kit.sides import side_by_side

# Where the note of a file says which of its rows left why.
_REMOVALS = b"removals"
# Ids are texts, of whose bits few are random; those in the middle of a product are.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
# Rows of which it is looked up at once why they left: some 40 MB.
_WHY_ROWS = 1 << 17
# Fewer files would not keep all cores busy to the end.
_FEW_FILES = 8


class Sink(Protocol):
    """Where files go."""

    @property
    def limits(self) -> tuple[int, int]:
        """Most rows of a file, and bytes with which one ends."""
        ...

    def write(self, file: File, rows: pa.Table) -> Any:
        """Write a file; called on several threads. Returns what `add` wants."""
        ...

    def add(self, file: File, written: Any) -> None:
        """Take a written file, in the order of the output."""
        ...

    def note(self, written: Any) -> pa.RecordBatch:
        """What was written, to be recalled."""
        ...

    def recall(self, file: File, note: pa.RecordBatch) -> Any:
        """What was written before."""
        ...


@dataclass(frozen=True, slots=True)
class Fates:
    """What became of each row.

    Attributes:
        ledger: which rows are gone.
        split_names: the splits.
        splits: that of each row, by its place among the names; shape (rows,).
        copies: how often each row is there; shape (rows,).
        depths: how many changes each step saw, by the step's number.
    """

    ledger: Ledger
    split_names: Sequence[str]
    splits: NDArray[np.int16]
    copies: NDArray[np.int32]
    depths: Mapping[int, int]


def write_files(bench: Workbench, fates: Fates, sink: Sink) -> list[File]:
    """Write kept and removed rows; returns all files, also those that were there, without their rows."""
    depths = _depths(bench, fates)

    def plan(run: tuple[str | None, NDArray[np.int64]]) -> tuple[File, NDArray[np.int64]]:
        split, numbers = run
        return _file(bench, numbers, depths, fates.ledger, split), numbers

    planned = list(side_by_side(plan, _runs(bench, fates, sink)))
    missing = [(file, numbers) for file, numbers in planned if not bench.vault.has(file.key)]
    # Files with rows of the same pieces are written one after the other: a piece that was read may still be there.
    missing.sort(key=lambda one: int(one[1][0]))
    total = int(fates.copies.sum())
    done = total - sum(file.rows for file, _ in missing)
    bench.watch("write", done, total)

    def fresh() -> Iterator[File]:
        whys = _whys(fates.ledger, [numbers for file, numbers in missing if file.part == "removed"])
        for file, numbers in missing:
            if file.part == "removed":
                file = replace(file, why=next(whys), removals=fates.ledger.reasons(numbers))
            yield replace(file, segments=list(_segments(bench, numbers, depths)), alone=len(missing) < _FEW_FILES)

    def keep(file: File, rows: pa.Table) -> int:
        said = json.dumps([[*why, count] for why, count in file.removals.items()])
        note = sink.note(sink.write(file, rows)).replace_schema_metadata({_REMOVALS: said})
        bench.vault.put({file.key: note})
        return file.rows

    for rows in bench.executor.map(assemble, bench.shared, fresh(), keep):
        done += rows
        bench.watch("write", done, total)
    files = []
    for file, _ in planned:
        note = bench.vault.open(file.key)
        removals = {(step, reason): count for step, reason, count in json.loads(note.schema.metadata[_REMOVALS])}
        files.append(replace(file, removals=removals))
        sink.add(files[-1], sink.recall(file, note))
    return files


def _whys(ledger: Ledger, files: Sequence[NDArray[np.int64]]) -> Iterator[pa.Table]:
    """Why the rows of each file left, files ascending: of some at a time, as the rows that they repeat are anywhere."""
    ends = np.cumsum([0, *map(len, files)])
    first = 0
    while first < len(files):
        last = max(first + 1, int(np.searchsorted(ends, ends[first] + _WHY_ROWS, side="right")) - 1)
        why = ledger.why(np.concatenate(files[first:last]))
        for start, stop in pairwise((ends[first : last + 1] - ends[first]).tolist()):
            yield why.slice(start, stop - start)
        first = last


def _depths(bench: Workbench, fates: Fates) -> NDArray[np.int16]:
    """How many changes had been made when each row was last seen."""
    depths = np.full(bench.count, bench.depth, dtype=np.int16)
    for step, depth in fates.depths.items():
        depths[fates.ledger.fate == step] = depth
    return depths


def _runs(bench: Workbench, fates: Fates, sink: Sink) -> Iterator[tuple[str | None, NDArray[np.int64]]]:
    """The rows of each file: their split, None where they were removed, and their numbers."""
    sizes = np.zeros(bench.count, dtype=np.int64)
    marks = np.zeros(bench.count, dtype=np.uint64)
    measures = bench.opener(MEASURE, bench.depth)
    for index, piece in enumerate(bench.pieces):
        part = measures(index)
        for values, name in ((sizes, "bytes"), (marks, "low")):
            values[piece.start : piece.start + piece.rows] = part.column(name).to_numpy()
    alive = fates.ledger.alive
    chosen = [(split, alive & (fates.splits == code)) for code, split in enumerate(fates.split_names)]
    for split, rows in [*sorted(chosen, key=lambda one: one[0]), (None, ~alive)]:
        numbers = np.flatnonzero(rows)
        numbers = np.repeat(numbers, fates.copies[numbers])
        for start, stop in cut(sizes[numbers], (marks[numbers] * _SPREAD) >> np.uint64(32), *sink.limits):
            yield split, numbers[start:stop]


def _file(
    bench: Workbench, numbers: NDArray[np.int64], depths: NDArray[np.int16], ledger: Ledger, split: str | None
) -> File:
    """The file of some rows, ascending; those without a split were removed."""
    told: list[str | bytes | pa.Buffer] = []
    for index, places, seen in _by_piece(bench, numbers, depths):
        chain = bench.chain(index, int(seen.max()))
        told += [bench.pieces[index].key, chain, places.tobytes(), seen.tobytes()]
    if split is not None:
        return File(key_of("rows", split, *told), "rows", split, len(numbers))
    key = key_of("removed", *told, *ledger.told(numbers))
    return File(key, "removed", "", len(numbers))


def _segments(bench: Workbench, numbers: NDArray[np.int64], depths: NDArray[np.int16]) -> Iterator[Segment]:
    for index, places, seen in _by_piece(bench, numbers, depths):
        yield Segment(bench.pieces[index], bench.changes(index, int(seen.max())), places, seen)


def _by_piece(
    bench: Workbench, numbers: NDArray[np.int64], depths: NDArray[np.int16]
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int16]]]:
    """Number of each piece that rows, ascending, are in, their places in it, and the changes made to them."""
    cuts = np.searchsorted(numbers, bench.starts)
    for index in np.flatnonzero(np.diff(cuts)).tolist():
        rows = numbers[cuts[index] : cuts[index + 1]]
        yield index, rows - bench.starts[index], depths[rows]
