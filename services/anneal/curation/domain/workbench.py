"""Where pieces are looked at: what is looked for, what was changed before, and the parts that were found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from anneal.curation.domain.looks import identify, locate, measure
from anneal.curation.domain.pieces import (
    Change,
    Executor,
    Look,
    Patch,
    Shared,
    Source,
    Task,
    Vault,
    Work,
    examine,
    key_of,
)
from anneal.curation.domain.signed import Parts

Watch = Callable[[str, int, int], None]
IDENTIFY, LOCATE, MEASURE, ROWS = "identify", "locate", "measure", "rows"
FEW_PIECES = 16
"""Of fewer pieces each look is worked on by itself: pieces would not keep all cores busy to the end."""


class Workbench:
    """The pieces of a run, and the changes that its steps have made to them so far.

    Attributes:
        pieces: all of them.
        starts: number of the first row of each, and the number of all rows; shape (pieces + 1,).
        count: rows in all.
        looks: what can be looked for, by name.
        depth: changes made so far, the same number in every piece.
    """

    def __init__(self, source: Source, vault: Vault, executor: Executor, watch: Watch) -> None:
        self.pieces = source.pieces
        self.count = sum(piece.rows for piece in self.pieces)
        self.starts = np.array([*(piece.start for piece in self.pieces), self.count], dtype=np.int64)
        self.looks: dict[str, Look] = {IDENTIFY: identify, LOCATE: locate, MEASURE: measure, ROWS: _same}
        self.depth = 0
        self.vault, self.executor, self.watch = vault, executor, watch
        self._source = source
        self._changes: list[list[Callable[[], Change]]] = [[] for _ in self.pieces]
        self._keys: dict[tuple[str | bytes, ...], str] = {}
        self._chains: list[list[str]] = [[""] for _ in self.pieces]

    @property
    def shared(self) -> Shared:
        """What work on a piece needs besides the piece."""
        return Shared(self._source, self.looks)

    def changes(self, piece: int, depth: int) -> tuple[Change, ...]:
        """The first changes made to a piece, whose parts are opened for it."""
        return tuple(made() for made in self._changes[piece][:depth])

    def chain(self, piece: int, depth: int) -> str:
        """Says what they are."""
        return self._chains[piece][depth]

    def rewrite(self, look: str) -> None:
        """Change every piece by a rewrite, whose parts are made by a look."""

        def made(key: str) -> Change:
            return Change(Patch(self.vault.open(key))) if self.vault.has(key) else Change(look=look, key=key)

        keys = [self.key(piece, look, self.depth) for piece in range(len(self.pieces))]
        self.change([partial(made, key) for key in keys], [look] * len(keys))

    def change(self, changes: Sequence[Callable[[], Change]], names: Sequence[str]) -> None:
        """Change every piece once more, under a name that says how; called whenever it is to be done."""
        for made, chain, one, name in zip(self._changes, self._chains, changes, names, strict=True):
            made.append(one)
            chain.append(key_of(chain[-1], name))
        self.depth += 1

    def key(self, piece: int, look: str, depth: int, *more: str | bytes) -> str:
        """The key of a part."""
        told = self.pieces[piece].key, self._chains[piece][depth], look, *more
        if more:
            return key_of(*told)
        if told not in self._keys:
            self._keys[told] = key_of(*told)
        return self._keys[told]

    def opener(self, look: str, depth: int) -> Callable[[int], pa.RecordBatch]:
        """Opens a part by the number of its piece."""
        return lambda piece: self.vault.open(self.key(piece, look, depth))

    def parts(self, look: str, depth: int) -> Parts:
        """What a comparison opens: what it looked for, and what every run knows of the rows."""
        looks = (look, IDENTIFY, LOCATE, MEASURE)
        keys, names, origins, sizes = ([self.key(n, one, depth) for n in range(len(self.pieces))] for one in looks)
        self.vault.ready([*keys, *sizes])
        signatures, identities, sources, measures = (self.opener(one, depth) for one in looks)
        return Parts(signatures, identities, sources, measures, keys, names, origins, self.vault.ready)

    def examine(self, doing: str, tasks: Sequence[Sequence[Task]]) -> None:
        """Do the tasks of each piece whose parts are not there yet."""
        left = [(n, tuple(task for task in wanted if not self.vault.has(task.key))) for n, wanted in enumerate(tasks)]
        left = [(number, missing) for number, missing in left if missing]
        count = {self.pieces[number].start: len(missing) for number, missing in left}
        done = float(self.count - sum(self.pieces[number].rows for number, _ in left))
        self.watch(doing, int(done), self.count)

        def keep(work: Work, found: Mapping[str, pa.RecordBatch]) -> float:
            self.vault.put(found)
            return work.piece.rows * len(work.tasks) / count[work.piece.start]

        work = (
            self._work(number, some)
            for number, missing in left
            for some in (self._apart(number, missing) if len(left) < FEW_PIECES else [missing])
        )
        for rows in self.executor.map(examine, self.shared, work, keep):
            done += rows
            self.watch(doing, round(done), self.count)

    def _apart(self, piece: int, tasks: tuple[Task, ...]) -> list[tuple[Task, ...]]:
        """Tasks that can be done side by side; those behind a rewrite that is still to be made stay with it."""
        pending = {change.key for change in self.changes(piece, max(task.depth for task in tasks)) if change.key}
        behind = tuple(task for task in tasks if task.depth or task.key in pending)
        alone = [(task,) for task in tasks if not task.depth and task.key not in pending]
        return [behind, *alone] if behind else [*alone]

    def _work(self, piece: int, tasks: tuple[Task, ...]) -> Work:
        return Work(self.pieces[piece], self.changes(piece, max(task.depth for task in tasks)), tasks)


def _same(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch
