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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.ledger import Compared, Found, Ledger
from anneal.curation.domain.looks import Assigning, Judging, Rewriting
from anneal.curation.domain.pieces import (
    Change,
    Executor,
    Look,
    Piece,
    Source,
    Task,
    Vault,
    Work,
    examine,
    key_of,
)
from anneal.curation.domain.scoring import Scoring, part_of, scores_of
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
from anneal.curation.domain.workbench import IDENTIFY, LOCATE, MEASURE, ROWS, Watch, Workbench
from anneal.curation.domain.writing import Fates, Sink, write_files


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
        parts: keys of the parts that the next version of the dataset can use, in runs that grow at their ends.
        notes: names of what comparisons keep for it, and their keys, which are among the parts.
        accounts: what steps that repeat rows say of it, as JSON values.
        scorings: what steps that score rows say of it, as JSON values.
    """

    rows_in: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    removed: Counter[tuple[str, str]] = field(default_factory=Counter)
    parts: list[list[str]] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    accounts: list[dict[str, Any]] = field(default_factory=list)
    scorings: list[dict[str, Any]] = field(default_factory=list)


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
    run = _Run(Workbench(source, vault, executor, watch))
    waiting: list[tuple[int, NamedStep]] = []
    for number, step in enumerate(steps):
        waiting.append((number, step))
        if isinstance(step.run, Scorer):
            run.decide(waiting)
            waiting = []
    run.decide(waiting)
    run.write(sink, is_kept=all(step.key for step in steps))
    return run.outcome


class _Run:
    """One run: the fate of each row."""

    def __init__(self, bench: Workbench) -> None:
        self.outcome = Outcome(rows_in=bench.count)
        self._bench = bench
        self._ledger = Ledger(bench.count)
        self._split_names: list[str] = []
        self._splits = np.zeros(bench.count, dtype=np.int16)
        for piece in bench.pieces:
            self._splits[piece.start : piece.start + piece.rows] = self._code(piece.split)
        self._copies = np.ones(bench.count, dtype=np.int32)
        self._depths: dict[int, int] = {}

    def write(self, sink: Sink, *, is_kept: bool) -> None:
        """Write kept and removed rows; what files follow from outlives the run where that of all steps does."""
        fates = Fates(self._ledger, self._split_names, self._splits, self._copies, self._depths)
        files = write_files(self._bench, fates, sink)
        if is_kept:
            self.outcome.parts.append([file.key for file in files])
        for file in files:
            self.outcome.removed.update(file.removals)
            if file.part == "rows":
                self.outcome.kept[file.split] += file.rows

    def decide(self, steps: Sequence[tuple[int, NamedStep]]) -> None:
        """Look for all steps at once, then decide one after the other; only the last may give scores."""
        wanted: list[tuple[str, int]] = []
        for number, step in steps:
            name = step.key or f"step {number}"
            self._depths[number] = self._bench.depth
            look = _look_of(step.run)
            if look is None:
                continue
            self._bench.looks[name] = look
            wanted.append((name, self._bench.depth))
            if isinstance(step.run, Comparer):
                wanted += [(one, self._bench.depth) for one in (IDENTIFY, LOCATE, MEASURE)]
            if isinstance(step.run, Rewriter):
                self._bench.rewrite(name)
        bench = self._bench
        # Files are cut by the measures of rows as they are in the end.
        wanted = list(dict.fromkeys([*wanted, (MEASURE, bench.depth)]))
        tasks = [[Task(bench.key(piece, *one), *one) for one in wanted] for piece in range(len(bench.pieces))]
        known = [each[place].key for place, (seen, _) in enumerate(wanted) if seen != IDENTIFY for each in tasks]
        with ThreadPoolExecutor(1) as beside:
            # What is known is fetched and verified while the rest is looked for.
            ready = beside.submit(bench.vault.ready, known)
            bench.examine("look", tasks)
            ready.result()
        memorable = {step.key for _, step in steps if step.key} | {IDENTIFY, LOCATE, MEASURE}
        for place, (seen, _) in enumerate(wanted):
            if seen in memorable:
                self.outcome.parts.append([each[place].key for each in tasks])
        for number, step in steps:
            self._decide(number, step)

    def _decide(self, number: int, step: NamedStep) -> None:
        name, depth = step.key or f"step {number}", self._depths[number]
        if isinstance(step.run, Scorer):
            self._score(name, step, step.run)
        elif isinstance(step.run, RowFilter):
            part, key = self._bench.opener(name, depth), partial(self._bench.key, look=name, depth=depth)
            self._filter(number, step, Found(self._bench.starts, part, key))
        elif isinstance(step.run, Assigner):
            for index, piece in enumerate(self._bench.pieces):
                self._assign(piece, self._bench.vault.open(self._bench.key(index, name, depth)).column("split"))
        elif isinstance(step.run, Comparer):
            self._bench.watch(step.name, 0, self._bench.count)
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
        depth, alive = self._bench.depth, self._ledger.alive
        changes: list[Callable[[], Change]] = []
        names = []

        def made(places: NDArray[np.int64], key: str) -> Change:
            return Change(Scoring(scorer.name, places, self._bench.vault.open(key)))

        for index, piece in enumerate(self._bench.pieces):
            self._bench.watch(step.name, piece.start, self._bench.count)
            places = np.flatnonzero(alive[piece.start : piece.start + piece.rows])
            key = self._bench.key(index, look, depth, "scores", places.tobytes())
            if self._bench.vault.has(key):
                scorer.recall(scores_of(self._bench.vault.open(key)))
            else:
                work = Work(piece, self._bench.changes(index, depth), (Task(key, ROWS, depth, places),))
                (rows,) = examine(self._bench.shared, work).values()
                self._bench.vault.put({key: part_of(scorer.score(rows))})
            changes.append(partial(made, places, key))
            names.append(key_of(look, repr(self._bench.vault.open(key).to_pylist())))
        self._bench.change(changes, names)
        self.outcome.scorings.append(dict(scorer.finish()))

    def _filter(self, number: int, step: NamedStep, found: Found) -> None:
        numbers = found.numbers()
        stays = ~self._ledger.alive[numbers]
        if getattr(step.run, "spares_test", False) and TEST in self._split_names:
            stays |= self._splits[numbers] == self._code(TEST)
        self._ledger.remove(number, step.name, numbers[~stays], found)

    def _assign(self, piece: Piece, splits: pa.DictionaryArray) -> None:
        codes = np.array([self._code(split) for split in splits.dictionary.to_pylist()], dtype=np.int16)
        self._splits[piece.start : piece.start + piece.rows] = codes[splits.indices.to_numpy()]

    def _code(self, split: str) -> int:
        if split not in self._split_names:
            self._split_names.append(split)
        return self._split_names.index(split)

    def _signed(self, name: str, depth: int, *, is_kept: bool) -> SignedRows:
        def revisit(what: str, look: Look, places: Sequence[NDArray[np.int64]], columns: Sequence[str]) -> Looked:
            self._bench.looks[f"{name}: {what}"] = look
            tasks: list[list[Task]] = []
            for piece, wanted in enumerate(places):
                key = self._bench.key(piece, name, depth, what, wanted.tobytes())
                task = Task(key, f"{name}: {what}", depth, wanted, tuple(columns))
                tasks.append([task] if len(wanted) else [])
            self._bench.examine(what, tasks)
            keys = [each[0].key for each in tasks if each]
            bounds = np.concatenate(([0], np.cumsum([len(wanted) for wanted in places if len(wanted)])))
            return Looked(bounds.astype(np.int64), lambda at: self._bench.vault.open(keys[at]))

        def found(what: str) -> pa.RecordBatch | None:
            key = self._bench.vault.note(key_of(name, what)) if is_kept else None
            return None if key is None else self._bench.vault.open(key)

        def keep(what: str, part: pa.RecordBatch) -> None:
            if is_kept:
                key = key_of(name, what, *self._bench.parts(name, depth).keys)
                self._bench.vault.put({key: part})
                self.outcome.parts.append([key])
                self.outcome.notes[key_of(name, what)] = key

        numbers = np.flatnonzero(self._ledger.alive)
        return SignedRows(
            numbers,
            self._bench.starts,
            self._bench.parts(name, depth),
            revisit,
            Notes(found, keep),
            lambda split: self._splits == self._code(split),
            np.array([piece.origin for piece in self._bench.pieces], dtype=np.int32),
        )


def _look_of(step: Runnable) -> Look | None:
    """What a step looks for in each piece; None where it needs the rows that are left."""
    if isinstance(step, Comparer):
        return step.sign
    if isinstance(step, Rewriter):
        return Rewriting(step)
    if isinstance(step, Assigner):
        return Assigning(step)
    return Judging(step) if isinstance(step, RowFilter) else None
