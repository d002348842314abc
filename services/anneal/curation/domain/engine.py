"""The engine: steps over any number of rows, decided by what is known of rows and not by rows in memory.

Rows are looked at in pieces. Looks at a piece are pure, so they run on all cores or on a cluster, are kept as parts,
and are not repeated by an attempt that goes on, nor by the next version of a dataset, for the pieces they share. What
needs all rows is then decided from the parts, step by step in the order of the pipeline, and last the files are written
from the pieces. Nothing depends on how rows are cut into pieces, where looks run, or what was known before: the same
rows and steps give the same bytes.

Every look sees every row of its piece, also rows that an earlier step removes: that costs a little, and makes a part
depend on its own step alone. Only scores, which cost more than time, are asked for the rows that are left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.ledger import Compared, Found, Ledger
from anneal.curation.domain.output import File, Segment, assemble, cut
from anneal.curation.domain.pieces import (
    Assigning,
    Change,
    Executor,
    Judging,
    Look,
    Piece,
    Rewriting,
    Shared,
    Source,
    Task,
    Vault,
    Work,
    examine,
    identify,
    key_of,
)
from anneal.curation.domain.scoring import Scoring, part_of
from anneal.curation.domain.signed import Looked, Notes, SignedRows
from anneal.curation.domain.steps.base import (
    TEST,
    Assigner,
    Assignment,
    Comparer,
    Copies,
    Rewriter,
    RowFilter,
    Runnable,
    Scorer,
    Verdicts,
)

Watch = Callable[[str, int, int], None]


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
class NamedStep:
    """A step under the name it has in the pipeline.

    Attributes:
        key: says what it does: its settings, and the digests of what it compares with. Empty: nothing is remembered of
            it beyond this run.
    """

    name: str
    run: Runnable
    key: str = ""


@dataclass(slots=True)
class Outcome:
    """What became of the rows.

    Attributes:
        rows_in: rows read, each as often as it is there.
        kept: rows by split.
        removed: rows by step and reason.
        parts: keys of the parts that the next version of the dataset can use.
        notes: names of what comparisons keep for it, and their keys, which are among the parts.
        accounts: what steps that repeat rows say of it, as JSON values.
    """

    rows_in: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    removed: Counter[tuple[str, str]] = field(default_factory=Counter)
    parts: set[str] = field(default_factory=set)
    notes: dict[str, str] = field(default_factory=dict)
    accounts: list[dict[str, Any]] = field(default_factory=list)


def curate(
    steps: Sequence[NamedStep], source: Source, vault: Vault, executor: Executor, sink: Sink, watch: Watch
) -> Outcome:
    """Run the steps in order over all rows.

    Args:
        steps: what to do.
        source: the rows.
        vault: where parts are kept.
        executor: where looks run.
        sink: where rows go.
        watch: told (what is done now, rows done, rows in all) again and again; may raise to stop.
    """
    run = _Run(source, vault, executor, watch)
    waiting: list[tuple[int, NamedStep]] = []
    for number, step in enumerate(steps):
        waiting.append((number, step))
        if isinstance(step.run, Scorer):
            run.decide(waiting)
            waiting = []
    run.decide(waiting)
    run.write(sink)
    return run.outcome


class _Run:
    """One run: what is known of the rows, and the fate of each."""

    def __init__(self, source: Source, vault: Vault, executor: Executor, watch: Watch) -> None:
        self._pieces = source.pieces
        self._starts = np.array([*(piece.start for piece in self._pieces), 0], dtype=np.int64)
        self._count = sum(piece.rows for piece in self._pieces)
        self._starts[-1] = self._count
        self.outcome = Outcome(rows_in=self._count)
        self._source, self._vault, self._executor, self._watch = source, vault, executor, watch
        self._ledger = Ledger(self._count)
        self._split_names: list[str] = []
        self._splits = np.zeros(self._count, dtype=np.int16)
        for piece in self._pieces:
            self._splits[piece.start : piece.start + piece.rows] = self._code(piece.split)
        self._copies = np.ones(self._count, dtype=np.int32)
        self._looks: dict[str, Look] = {"identify": identify, "rows": _same}
        self._changes: list[list[Change]] = [[] for _ in self._pieces]
        self._chains: list[list[str]] = [[""] for _ in self._pieces]
        self._depth_of: dict[int, int] = {}

    # -- parts ---------------------------------------------------------------------------------------------------

    def _key(self, piece: int, look: str, depth: int, *more: str | bytes) -> str:
        return key_of(self._pieces[piece].key, self._chains[piece][depth], look, *more)

    def _open(self, look: str, depth: int) -> Callable[[int], pa.RecordBatch]:
        return lambda piece: self._vault.open(self._key(piece, look, depth))

    def _examine(self, doing: str, tasks: Sequence[Sequence[Task]]) -> None:
        """Do the tasks of each piece whose parts are not there yet."""
        work = []
        for number, (piece, wanted) in enumerate(zip(self._pieces, tasks, strict=True)):
            missing = tuple(task for task in wanted if not self._vault.has(task.key))
            if missing:
                deepest = max(task.depth for task in missing)
                work.append(Work(piece, tuple(self._changes[number][:deepest]), missing))
        done = self._count - sum(item.piece.rows for item in work)
        self._watch(doing, done, self._count)
        for rows in self._executor.map(examine, Shared(self._source, self._looks), work, self._keep):
            done += rows
            self._watch(doing, done, self._count)

    def _keep(self, work: Work, found: Sequence[tuple[str, pa.RecordBatch]]) -> int:
        for key, part in found:
            self._vault.put(key, part)
        return work.piece.rows

    # -- deciding ------------------------------------------------------------------------------------------------

    def decide(self, steps: Sequence[tuple[int, NamedStep]]) -> None:
        """Look for all steps at once, then decide one after the other; only the last may give scores."""
        depth = len(self._chains[0]) - 1 if self._pieces else 0
        wanted: list[tuple[str, int]] = [("identify", depth)]
        for number, step in steps:
            name = step.key or f"step {number}"
            self._depth_of[number] = depth
            look = _look_of(step.run)
            if look is None:
                continue
            self._looks[name] = look
            if isinstance(step.run, Rewriter):
                for changes, chain in zip(self._changes, self._chains, strict=True):
                    changes.append(Change(rewrite=name))
                    chain.append(key_of(chain[-1], name))
                depth += 1
                wanted.append(("identify", depth))
            else:
                wanted.append((name, depth))
        tasks = [
            [Task(self._key(piece, look, at), look, at) for look, at in wanted] for piece in range(len(self._pieces))
        ]
        self._examine("look", tasks)
        memorable = {step.key for _, step in steps if step.key} | {"identify"}
        self.outcome.parts.update(task.key for each in tasks for task in each if task.look in memorable)
        for number, step in steps:
            self._decide(number, step)

    def _decide(self, number: int, step: NamedStep) -> None:
        name, depth = step.key or f"step {number}", self._depth_of[number]
        if isinstance(step.run, Scorer):
            self._score(name, step, step.run)
        elif isinstance(step.run, RowFilter):
            self._filter(number, step, self._open(name, depth))
        elif isinstance(step.run, Assigner):
            for index, piece in enumerate(self._pieces):
                self._assign(piece, self._vault.open(self._key(index, name, depth)).column("split"))
        elif isinstance(step.run, Comparer):
            self._watch(step.name, 0, self._count)
            signed = self._signed(name, depth, is_kept=bool(step.key))
            said = step.run.compare(signed)
            if isinstance(said, Assignment):
                codes = np.array([self._code(split) for split in said.names], dtype=np.int16)
                self._splits[signed.numbers] = codes[said.codes]
            elif isinstance(said, Copies):
                self._copy(number, step, signed, said)
            else:
                compared = Compared(signed, said)
                self._ledger.remove(number, step.name, compared.numbers(), compared)

    def _copy(self, number: int, step: NamedStep, signed: SignedRows, said: Copies) -> None:
        """Rows that are there more than once came in more than once: what came in is what is kept or has left."""
        gone = Verdicts(places=np.flatnonzero(said.counts == 0), reason=said.reason)
        compared = Compared(signed, [gone])
        self._ledger.remove(number, step.name, compared.numbers(), compared)
        self._copies[signed.numbers] = np.maximum(said.counts, 1)
        self.outcome.rows_in = int(self._copies.sum())
        self.outcome.accounts.append({"step": step.name, "sources": list(said.account)})

    def _score(self, look: str, step: NamedStep, scorer: Scorer) -> None:
        """Ask for the scores of the rows that are left; what was answered in an attempt before is not asked again."""
        depth = len(self._chains[0]) - 1 if self._pieces else 0
        alive = self._ledger.alive
        for index, piece in enumerate(self._pieces):
            self._watch(step.name, piece.start, self._count)
            places = np.flatnonzero(alive[piece.start : piece.start + piece.rows])
            key = self._key(index, look, depth, "scores", places.tobytes())
            if not self._vault.has(key):
                work = Work(piece, tuple(self._changes[index]), (Task(key, "rows", depth, places),))
                ((_, rows),) = examine(Shared(self._source, self._looks), work)
                self._vault.put(key, part_of(scorer.score(rows)))
            part = self._vault.open(key)
            self._changes[index].append(Change(scores=Scoring(step.name, places, part)))
            self._chains[index].append(key_of(self._chains[index][-1], look, repr(part.to_pylist())))

    def _filter(self, number: int, step: NamedStep, part: Callable[[int], pa.RecordBatch]) -> None:
        gone = []
        for index, piece in enumerate(self._pieces):
            gone.append(piece.start + part(index).column("place").to_numpy().astype(np.int64))
        numbers = np.concatenate([np.zeros(0, dtype=np.int64), *gone])
        stays = ~self._ledger.alive[numbers]
        if getattr(step.run, "spares_test", False) and TEST in self._split_names:
            stays |= self._splits[numbers] == self._code(TEST)
        self._ledger.remove(number, step.name, numbers[~stays], Found(self._starts, part))

    def _assign(self, piece: Piece, splits: pa.DictionaryArray) -> None:
        codes = np.array([self._code(split) for split in splits.dictionary.to_pylist()], dtype=np.int16)
        self._splits[piece.start : piece.start + piece.rows] = codes[splits.indices.to_numpy()]

    def _code(self, split: str) -> int:
        if split not in self._split_names:
            self._split_names.append(split)
        return self._split_names.index(split)

    def _signed(self, name: str, depth: int, *, is_kept: bool) -> SignedRows:
        def revisit(what: str, look: Look, places: Sequence[NDArray[np.int64]]) -> Looked:
            self._looks[f"{name}: {what}"] = look
            tasks: list[list[Task]] = []
            for piece, wanted in enumerate(places):
                key = self._key(piece, name, depth, what, wanted.tobytes())
                tasks.append([Task(key, f"{name}: {what}", depth, wanted)] if len(wanted) else [])
            self._examine(what, tasks)
            keys = [each[0].key for each in tasks if each]
            bounds = np.concatenate(([0], np.cumsum([len(wanted) for wanted in places if len(wanted)])))
            return Looked(bounds.astype(np.int64), lambda at: self._vault.open(keys[at]))

        def found(what: str) -> pa.RecordBatch | None:
            key = self._vault.note(key_of(name, what)) if is_kept else None
            return None if key is None else self._vault.open(key)

        def keep(what: str, part: pa.RecordBatch) -> None:
            if is_kept:
                key = key_of(name, what, *(piece.key for piece in self._pieces))
                self._vault.put(key, part)
                self.outcome.parts.add(key)
                self.outcome.notes[key_of(name, what)] = key

        numbers = np.flatnonzero(self._ledger.alive)
        return SignedRows(
            numbers,
            self._starts,
            self._open(name, depth),
            self._open("identify", depth),
            revisit,
            Notes(found, keep),
            lambda split: self._splits == self._code(split),
            np.array([piece.origin for piece in self._pieces], dtype=np.int32),
        )

    # -- writing -------------------------------------------------------------------------------------------------

    def write(self, sink: Sink) -> None:
        """Write kept and removed rows."""
        files = list(self._files(sink))
        fresh = [file for file in files if not self._vault.has(file.key)]
        total = sum(file.rows for file in files)
        done = total - sum(file.rows for file in fresh)
        self._watch("write", done, total)

        def keep(file: File, rows: pa.Table) -> int:
            self._vault.put(file.key, sink.note(sink.write(file, rows)))
            return file.rows

        for rows in self._executor.map(assemble, Shared(self._source, self._looks), fresh, keep):
            done += rows
            self._watch("write", done, total)
        for file in files:
            sink.add(file, sink.recall(file, self._vault.open(file.key)))
            self.outcome.parts.add(file.key)
            if file.part == "rows":
                self.outcome.kept[file.split] += file.rows
        self.outcome.removed = self._ledger.removed

    def _files(self, sink: Sink) -> Iterator[File]:
        depth = len(self._chains[0]) - 1 if self._pieces else 0
        sizes = np.zeros(self._count, dtype=np.int64)
        for index, piece in enumerate(self._pieces):
            part = self._vault.open(self._key(index, "identify", depth))
            sizes[piece.start : piece.start + piece.rows] = part.column("bytes").to_numpy()
        alive = self._ledger.alive
        depths = np.full(self._count, depth, dtype=np.int16)
        for number, at in self._depth_of.items():
            depths[self._ledger.fate == number] = at
        for split in sorted(self._split_names):
            numbers = np.flatnonzero(alive & (self._splits == self._code(split)))
            numbers = np.repeat(numbers, self._copies[numbers])
            for run in cut(numbers, sizes[numbers], *sink.limits):
                yield self._file(run, depths, split)
        numbers = np.flatnonzero(~alive)
        numbers = np.repeat(numbers, self._copies[numbers])
        for run in cut(numbers, sizes[numbers], *sink.limits):
            yield self._file(run, depths)

    def _file(self, numbers: NDArray[np.int64], depths: NDArray[np.int16], split: str | None = None) -> File:
        segments, told = [], []
        cuts = np.searchsorted(numbers, self._starts)
        for index in np.flatnonzero(np.diff(cuts)).tolist():
            rows = numbers[cuts[index] : cuts[index + 1]]
            places = rows - self._starts[index]
            deepest = int(depths[rows].max())
            changes = tuple(self._changes[index][:deepest])
            segments.append(Segment(self._pieces[index], changes, places, depths[rows]))
            told += [self._pieces[index].key, self._chains[index][deepest], places.tobytes(), depths[rows].tobytes()]
        if split is not None:
            return File(key_of("rows", split, *told), "rows", split, segments)
        why = self._ledger.why(numbers)
        texts = [str(value) for column in why.columns for value in column.to_pylist()]
        return File(key_of("removed", *told, *texts), "removed", "", segments, why)


def _look_of(step: Runnable) -> Look | None:
    """What a step looks for in each piece; None where it needs the rows that are left."""
    if isinstance(step, Comparer):
        return step.sign
    if isinstance(step, Rewriter):
        return Rewriting(step)
    if isinstance(step, Assigner):
        return Assigning(step)
    return Judging(step) if isinstance(step, RowFilter) else None


def _same(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch
