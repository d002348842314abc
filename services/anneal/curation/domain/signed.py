"""What a comparison sees of the rows that are left: parts of many pieces as if they were one table.

Columns of numbers are copied when they are asked for, one at a time; texts stay mapped. So a comparison of ten million
rows holds what it works on and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Look = Callable[[pa.RecordBatch], pa.RecordBatch]
Opener = Callable[[int], pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class Looked:
    """What was seen in some rows at a second look, piece by piece.

    Attributes:
        bounds: the rows of piece i are those from `bounds[i]` to before `bounds[i + 1]`, shape (pieces + 1,).
        open: the table of a piece; mapped, and let go with the last reference to it.
    """

    bounds: NDArray[np.int64]
    open: Opener

    def table(self) -> pa.Table:
        """All of it, mapped."""
        return pa.Table.from_batches([self.open(piece) for piece in range(len(self.bounds) - 1)])


@dataclass(frozen=True, slots=True)
class Parts:
    """What is known of the rows of each piece, by the number of the piece.

    Attributes:
        signatures: what the step signed.
        identities: id.
        sources: source, as a dictionary.
        measures: size, and the id as two numbers.
        keys: of the signatures; equal keys have equal rows and signatures.
        names: of the identities; equal names have equal ids.
        origins: keys of the sources.
        ready: makes parts ready to be opened, by their keys, several at once.
    """

    signatures: Opener
    identities: Opener
    sources: Opener
    measures: Opener
    keys: Sequence[str]
    names: Sequence[str]
    origins: Sequence[str]
    ready: Callable[[Sequence[str]], None] = lambda _keys: None


class SignedRows:
    """The rows of a comparison. A row's place is its number among them."""

    def __init__(
        self,
        numbers: NDArray[np.int64],
        starts: NDArray[np.int64],
        parts: Parts,
        revisit: Callable[[str, Look, Sequence[NDArray[np.int64]], Sequence[str]], Looked],
        notes: Notes,
        splits: Callable[[str], NDArray[np.bool_]],
        origins: NDArray[np.int32],
    ) -> None:
        """Make the view.

        Args:
            numbers: the rows' numbers in the whole input, ascending; shape (rows,).
            starts: number of the first row of each piece, and the number of all rows; shape (pieces + 1,).
            parts: what is known of the rows of each piece.
            revisit: takes a name, a look, the places within each piece, and the columns that the look reads.
            notes: what the comparison said of the same rows before.
            splits: which rows of the whole input are in a split.
            origins: the dataset that each piece is from, shape (pieces,).
        """
        self.numbers, self.notes, self.starts, self.parts = numbers, notes, starts, parts
        self._splits, self._origins, self._revisit = splits, origins, revisit
        self._bounds = np.searchsorted(numbers, starts)

    def __len__(self) -> int:
        return len(self.numbers)

    def only(self, places: NDArray[np.int64]) -> SignedRows:
        """Some of the rows, by themselves; places ascend."""
        return self.numbered(self.numbers[places])

    def numbered(self, numbers: NDArray[np.int64]) -> SignedRows:
        """Rows by their numbers in the whole input, ascending; also such as are not left."""
        return SignedRows(
            numbers,
            self.starts,
            self.parts,
            self._revisit,
            self.notes,
            self._splits,
            self._origins,
        )

    def places(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of rows by their numbers; all are among these."""
        return numbers if len(self) == self.starts[-1] else np.searchsorted(self.numbers, numbers)

    def _places(self, piece: int) -> NDArray[np.int64]:
        """Which rows of a piece are among these, as places within the piece."""
        places: NDArray[np.int64] = self.numbers[self._bounds[piece] : self._bounds[piece + 1]] - self.starts[piece]
        return places

    def _pieces(self) -> list[int]:
        pieces: list[int] = np.flatnonzero(np.diff(self._bounds)).tolist()
        return pieces

    def array(self, name: str) -> NDArray[Any]:
        """A column of numbers, shape (rows,); of lists of one size, shape (rows, size)."""
        chosen = self._pieces()
        values = _numbers_of(self.parts.signatures(chosen[0] if chosen else 0).column(name))
        made = np.empty((len(self), *values.shape[1:]), dtype=values.dtype)
        for piece in chosen:
            values = _numbers_of(self.parts.signatures(piece).column(name))
            first, last = self._bounds[piece : piece + 2]
            made[first:last] = values if last - first == len(values) else values[self._places(piece)]
        return made

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of the signatures, or `id` or `source` of the rows."""
        opener = {"id": self.parts.identities, "source": self.parts.sources}.get(name, self.parts.signatures)
        chunks = [_some(opener(piece).column(name), self._places(piece)) for piece in self._pieces()]
        return pa.chunked_array(chunks, type=None if chunks else pa.string())

    def in_split(self, split: str) -> NDArray[np.bool_]:
        """Which rows are in a split, shape (rows,)."""
        return self._splits(split)[self.numbers]

    def origins(self) -> NDArray[np.int32]:
        """Which of the datasets read each row is from, shape (rows,)."""
        return np.repeat(self._origins, np.diff(self._bounds))

    def id_texts(self, places: NDArray[np.int64]) -> pa.Array:
        """The ids of some rows, in any order and as often as they are asked for, as an array of texts."""
        return self._texts("id", places)

    def naming(self, places: NDArray[np.int64]) -> Iterator[bytes | str]:
        """What the ids of some rows follow from: where it is equal, so are they."""
        numbers = self.numbers[places]
        yield numbers.tobytes()
        for piece in np.unique(np.searchsorted(self.starts, numbers, side="right") - 1).tolist():
            yield self.parts.names[piece]

    def _texts(self, name: str, places: NDArray[np.int64]) -> pa.Array:
        if not len(places):
            return pa.array([], type=pa.string())
        order = np.argsort(places, kind="stable")
        ascending = places[order]
        cuts = np.searchsorted(ascending, self._bounds)
        pieces = np.flatnonzero(np.diff(cuts)).tolist()
        keys, opener = (
            (self.parts.names, self.parts.identities) if name == "id" else (self.parts.origins, self.parts.sources)
        )
        self.parts.ready([keys[piece] for piece in pieces])
        chunks = []
        for piece in pieces:
            within = self.numbers[ascending[cuts[piece] : cuts[piece + 1]]] - self.starts[piece]
            chunks.append(_some(opener(piece).column(name), within))
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        return pa.concat_arrays(chunks).take(pa.array(back))

    def ranks(self, *keys: NDArray[Any]) -> NDArray[np.int64]:
        """The place of each row in their order by the keys (smallest first), then id, then source, then place."""
        high, low = self._id_keys()
        sorting = (*keys, high, low)
        order = np.lexsort(tuple(reversed(sorting)))
        equal = np.ones(max(len(order) - 1, 0), dtype=bool)
        for key in sorting:
            equal &= key[order[1:]] == key[order[:-1]]
        if equal.any():
            self._order_by_source(order, equal)
        ranks = np.empty(len(order), dtype=np.int64)
        ranks[order] = np.arange(len(order))
        return ranks

    def first_of_each(self, firsts: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each row the one of its group that `ranks` without a key puts first, shape (rows,).

        Args:
            firsts: for each row the place of the first one of its group.
        """
        from anneal.curation.domain.kernels.pairs import least_of_each

        high, low = self._id_keys()
        chosen: NDArray[np.int64] = least_of_each(firsts, high, low)
        tied = (high == high[chosen]) & (low == low[chosen])
        rows = np.flatnonzero(tied & (np.bincount(firsts[tied], minlength=len(self))[firsts] > 1))
        if len(rows):
            ranks = np.full(len(self), ~np.uint64(0))
            ranks[chosen] = 0
            ranks[rows] = self._source_ranks(rows)
            chosen = least_of_each(firsts, ranks, ranks)
        return chosen

    def _source_ranks(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers in the order of the sources of some rows, equal where they are."""
        sources = pc.fill_null(self._texts("source", rows), "").dictionary_encode()
        ranks = np.empty(len(sources.dictionary), dtype=np.int64)
        ranks[pc.sort_indices(sources.dictionary).to_numpy()] = np.arange(len(ranks))
        found: NDArray[np.int64] = ranks[sources.indices.to_numpy()]
        return found

    def _order_by_source(self, order: NDArray[np.int64], equal: NDArray[np.bool_]) -> None:
        """Put runs of equal rows into the order of their sources, in place."""
        group = np.concatenate(([0], np.cumsum(~equal)))
        spots = np.flatnonzero(np.concatenate((equal, [False])) | np.concatenate(([False], equal)))
        rows = order[spots]
        order[spots] = rows[np.lexsort((rows, self._source_ranks(rows), group[spots]))]

    def _id_keys(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        high, low = (np.zeros(len(self), dtype=np.uint64) for _ in range(2))
        for piece in self._pieces():
            part, places = self.parts.measures(piece), self._places(piece)
            for half, name in ((high, "high"), (low, "low")):
                half[self._bounds[piece] : self._bounds[piece + 1]] = part.column(name).to_numpy()[places]
        return high, low

    def revisit(self, name: str, look: Look, places: NDArray[np.int64], columns: Sequence[str] = ()) -> Looked:
        """What `look` sees in some rows: one row for each, in the order of the places.

        Args:
            name: of what is looked for; with the settings of the step it says what `look` does.
            look: a pure and picklable function.
            places: ascending.
            columns: that it reads; none where it may read all.
        """
        numbers = self.numbers[places]
        cuts = np.searchsorted(numbers, self.starts)
        wanted = [
            numbers[first:last] - start
            for first, last, start in zip(cuts[:-1], cuts[1:], self.starts[:-1], strict=True)
        ]
        return self._revisit(name, look, wanted, columns)


@dataclass(frozen=True, slots=True)
class Notes:
    """What comparisons of a dataset's rows keep for the next one.

    Attributes:
        found: what was kept before, by name.
        kept: what this one keeps.
    """

    found: Callable[[str], pa.RecordBatch | None]
    keep: Callable[[str, pa.RecordBatch], None]

    @classmethod
    def in_memory(cls, notes: dict[str, pa.RecordBatch] | None = None) -> Notes:
        """Notes that last as long as the dict."""
        held = {} if notes is None else notes
        return cls(held.get, held.__setitem__)


def _some(column: pa.Array, places: NDArray[np.int64]) -> pa.Array:
    taken = column.take(pa.array(places))
    return taken.dictionary_decode() if pa.types.is_dictionary(taken.type) else taken


def _numbers_of(column: pa.Array) -> NDArray[Any]:
    if isinstance(column.type, pa.FixedSizeListType):
        flat: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(-1, column.type.list_size)
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values
