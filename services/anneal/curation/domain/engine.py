"""The engine: steps over rows in as few passes as they need, with signatures in memory and never the rows.

Filters and splits run while rows stream by. A global step ends a pass: it sees what the filters before it left, maybe
once more in part, and then decides; rows it removes are written when they come by next. So a row is in memory only
while its batch is. Removed rows are written in the order (pass, row), kept rows in the order of the input within their
split: nothing depends on how rows are cut into batches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.steps.base import TEST, Assigner, GlobalStep, Removal, RowFilter, Runnable


class Source(Protocol):
    """Rows that can be read again and again, always in the same order."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def read(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        """All rows, in batches of one split each, with the split's name."""
        ...


class Sink(Protocol):
    """Where rows go."""

    def keep(self, batch: pa.RecordBatch, split: str) -> None:
        """Take rows that stay."""
        ...

    def remove(self, batch: pa.RecordBatch, verdicts: Sequence[Verdict]) -> None:
        """Take rows that leave, with one verdict for each."""
        ...


@dataclass(frozen=True, slots=True)
class NamedStep:
    """A step under the name it has in the pipeline."""

    name: str
    run: Runnable


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which step removed a row, and why."""

    step: str
    removal: Removal


@dataclass(slots=True)
class Outcome:
    """What became of the rows.

    Attributes:
        rows_in: rows read.
        kept: rows by split.
        removed: rows by step and reason.
    """

    rows_in: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    removed: Counter[tuple[str, str]] = field(default_factory=Counter)


def curate(steps: Sequence[NamedStep], source: Source, sink: Sink, watch: Callable[[str, int, int], None]) -> Outcome:
    """Run the steps in order over all rows.

    Args:
        steps: what to do.
        source: the rows.
        sink: where they go.
        watch: told (what is done now, rows done, rows in all) after every batch; may raise to stop.
    """
    run = _Run(source, sink, watch)
    waiting: list[NamedStep] = []
    for step in steps:
        if isinstance(step.run, GlobalStep):
            run.compare(waiting, step)
            waiting = []
        else:
            waiting.append(step)
    run.finish(waiting)
    return run.outcome


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows, and the name of each one's split; dtype object."""

    batch: pa.RecordBatch
    splits: NDArray[np.object_]

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def only(self, kept: NDArray[np.bool_]) -> _Rows:
        """The rows where `kept` is true."""
        return self if kept.all() else _Rows(self.batch.filter(pa.array(kept)), self.splits[kept])


class _Run:
    """One run: which rows are gone, and the split of each."""

    def __init__(self, source: Source, sink: Sink, watch: Callable[[str, int, int], None]) -> None:
        self.outcome = Outcome(rows_in=source.count)
        self._source, self._sink, self._watch = source, sink, watch
        self._gone = np.zeros(source.count, dtype=bool)
        self._split_names: list[str] = []
        self._splits = np.full(source.count, -1, dtype=np.int32)
        self._pending: dict[int, Verdict] = {}

    def compare(self, filters: Sequence[NamedStep], step: NamedStep) -> None:
        """A pass that ends with a global step."""
        assert isinstance(step.run, GlobalStep)
        gathering = step.run.gather()
        for numbers, rows in self._survivors(filters, step.name):
            gathering.add(numbers, rows.batch)
        while (wanted := gathering.close()) is not None:
            chosen = np.zeros(len(self._gone), dtype=bool)
            chosen[wanted] = True
            for numbers, rows in self._read(f"{step.name}: verify"):
                mask = chosen[numbers]
                if mask.any():
                    gathering.add(numbers[mask], rows.only(mask).batch)
        self._pending = {number: Verdict(step.name, why) for number, why in gathering.removals().items()}

    def finish(self, filters: Sequence[NamedStep]) -> None:
        """The last pass: what is left is kept."""
        for _, rows in self._survivors(filters, "write"):
            for split in sorted(set(rows.splits)):
                part = rows.only(rows.splits == split)
                self._sink.keep(part.batch, split)
                self.outcome.kept[split] += len(part)

    def _survivors(self, filters: Sequence[NamedStep], doing: str) -> Iterator[tuple[NDArray[np.int64], _Rows]]:
        """The rows that pass the filters; those that do not, and those judged before, go to the sink."""
        for numbers, rows in self._read(doing):
            here = ~self._gone[numbers]
            numbers, rows = numbers[here], rows.only(here)
            verdicts = {n: self._pending.pop(n) for n in numbers.tolist() if n in self._pending}
            left_numbers, left = self._without(verdicts, numbers, rows)
            for step in filters:
                if not len(left):
                    break
                if isinstance(step.run, Assigner):
                    left = self._assign(step.run, left_numbers, left)
                    continue
                assert isinstance(step.run, RowFilter)
                spared = left.splits == TEST if getattr(step.run, "spares_test", False) else np.zeros(len(left), bool)
                new = {
                    int(left_numbers[row]): Verdict(step.name, why)
                    for row, why in step.run.judge(left.batch).items()
                    if not spared[row]
                }
                left_numbers, left = self._without(new, left_numbers, left)
                verdicts.update(new)
            self._remove(verdicts, numbers, rows)
            if len(left):
                yield left_numbers, left

    def _read(self, doing: str) -> Iterator[tuple[NDArray[np.int64], _Rows]]:
        start = 0
        for split, batch in self._source.read():
            numbers = np.arange(start, start + batch.num_rows)
            start += batch.num_rows
            unknown = numbers[self._splits[numbers] < 0]
            if len(unknown):
                self._splits[unknown] = self._code(split)
            names = np.array(self._split_names, dtype=object)
            yield numbers, _Rows(batch, names[self._splits[numbers]])
            self._watch(doing, start, self._source.count)

    def _assign(self, step: Assigner, numbers: NDArray[np.int64], rows: _Rows) -> _Rows:
        splits = step.assign(rows.batch)
        self._splits[numbers] = [self._code(split) for split in splits]
        return _Rows(rows.batch, np.array(splits, dtype=object))

    def _code(self, split: str) -> int:
        if split not in self._split_names:
            self._split_names.append(split)
        return self._split_names.index(split)

    @staticmethod
    def _without(
        verdicts: dict[int, Verdict], numbers: NDArray[np.int64], rows: _Rows
    ) -> tuple[NDArray[np.int64], _Rows]:
        if not verdicts:
            return numbers, rows
        stays = ~np.isin(numbers, list(verdicts))
        return numbers[stays], rows.only(stays)

    def _remove(self, verdicts: dict[int, Verdict], numbers: NDArray[np.int64], rows: _Rows) -> None:
        if not verdicts:
            return
        ordered = sorted(verdicts)
        self._sink.remove(rows.only(np.isin(numbers, ordered)).batch, [verdicts[number] for number in ordered])
        self._gone[ordered] = True
        self.outcome.removed.update((verdict.step, verdict.removal.reason) for verdict in verdicts.values())
