"""Which rows have the same words and which share bands, and how that changes when rows come and go.

Rows are numbers in the whole input. Rows of the same words are a class, named by its first row that is left. What is
known follows from the rows that are left and from nothing else: it is the same however they came, all at once or a few
at a time. So a dataset's next version takes it over and looks only for what its new rows share with others. That costs
one pass over the signatures of the others and no sorting of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.candidates import (
    Candidates,
    Members,
    bucket_order,
    candidate_pairs,
    codes_of,
    distinct,
    ends_of,
)
from anneal.kit.sides import side_by_side

if TYPE_CHECKING:
    from anneal.curation.domain.steps.base import Notes, Signed

Numbers = NDArray[np.int64]
_KEYS = b"keys"
_NONE: Numbers = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Matches:
    """What is known.

    Attributes:
        classes: of each row, -1 for rows that have left or have no words; shape (rows,), int32.
        codes: pairs of classes that share a band, as `codes_of` has them, ascending; shape (pairs,).
        bands: in how many bands each is a pair, shape (pairs,).
        similarities: of each, NaN where it is not known; shape (pairs,).
    """

    classes: NDArray[np.int32]
    codes: NDArray[np.uint64]
    bands: NDArray[np.uint8]
    similarities: NDArray[np.float64]

    @classmethod
    def empty(cls) -> Matches:
        """Nothing is known."""
        none = np.zeros(0)
        return cls(none.astype(np.int32), none.astype(np.uint64), none.astype(np.uint8), none)

    @classmethod
    def of(cls, notes: Notes, keys: Sequence[str]) -> Matches:
        """What was known of the version before, where its pieces are the first of this one.

        Args:
            notes: of the version before.
            keys: of the signatures of each piece.
        """
        rows, pairs = notes.found("rows"), notes.found("pairs")
        if rows is None or pairs is None:
            return cls.empty()
        if json.loads(rows.schema.metadata[_KEYS]) != list(keys[: len(json.loads(rows.schema.metadata[_KEYS]))]):
            return cls.empty()
        return cls(
            rows.column("class").to_numpy(),
            *(pairs.column(name).to_numpy() for name in ("code", "bands", "similarity")),
        )

    def keep(self, notes: Notes, keys: Sequence[str]) -> None:
        """Keep it for the next version."""
        about = pa.schema([("class", pa.int32())], metadata={_KEYS: json.dumps(list(keys))})
        notes.keep("rows", pa.RecordBatch.from_arrays([pa.array(self.classes)], schema=about))
        arrays = [pa.array(values) for values in (self.codes, self.bands, self.similarities)]
        notes.keep("pairs", pa.RecordBatch.from_arrays(arrays, names=["code", "bands", "similarity"]))


@dataclass(frozen=True, slots=True)
class _Classes:
    """The classes now, and what became of those before.

    Attributes:
        of_rows: of each row.
        added: classes that are new.
        removed: classes of which no row is left, by their old names.
        joined: names of the classes that rows joined or left, where rows are left.
        old: the old names of those.
    """

    of_rows: NDArray[np.int32]
    added: Numbers
    removed: Numbers
    joined: Numbers
    old: Numbers


def grown(before: Matches, signed: Signed, band_count: int) -> tuple[Matches, Numbers]:
    """What is known now, and the classes that are not as they were, or are in pairs that are not.

    Similarities of new pairs are NaN.

    Args:
        before: what was known of the first rows.
        signed: the rows that are left, with the columns `words`, `print_0`, `print_1` and `band_0` and on.
        band_count: how many bands there are.
    """
    classes = _classes(before, signed)
    gained, lost = _candidates(before, signed, classes, band_count)
    codes, bands, similarities, changed = _changed(before, gained, lost)
    renamed = np.arange(len(classes.of_rows))
    renamed[classes.old] = classes.joined
    moved = classes.old != classes.joined
    if moved.any():
        codes, bands, similarities = _renamed(codes, bands, similarities, renamed, classes.old[moved])
        changed = renamed[changed]
    touched = np.concatenate((classes.added, classes.joined, changed))
    return Matches(classes.of_rows, codes, bands, similarities), touched


# -- classes ---------------------------------------------------------------------------------------------------------


def _classes(before: Matches, signed: Signed) -> _Classes:
    from anneal.curation.domain.kernels.pairs import firsts_of_equals

    total, known = int(signed.starts[-1]), len(before.classes)
    is_left = np.zeros(total, dtype=bool)
    is_left[signed.numbers] = True
    had = before.classes >= 0
    gone = np.flatnonzero(had & ~is_left[:known])
    fresh = np.concatenate((np.flatnonzero(is_left[:known] & ~had), known + np.flatnonzero(is_left[known:])))
    fresh = fresh[signed.numbered(fresh).array("words") > 0]
    view = signed.numbered(fresh)
    prints = view.array("print_0"), view.array("print_1")
    firsts = firsts_of_equals(*prints)
    founders = np.flatnonzero(firsts == np.arange(len(firsts)))
    names = fresh.copy()
    joins = np.zeros(len(fresh), dtype=bool)
    for founder, name in _known_classes(before, signed, [half[founders] for half in prints]):
        names[founders[founder]], joins[founders[founder]] = name, True
    of_rows = np.full(total, -1, dtype=np.int32)
    of_rows[:known] = before.classes
    of_rows[gone] = -1
    of_rows[fresh] = names[firsts]
    old, joined, removed = _joined(of_rows, np.concatenate((names[joins], before.classes[gone])))
    if len(old):
        renamed = np.arange(total)
        renamed[old] = joined
        has = of_rows >= 0
        of_rows[has] = renamed[of_rows[has]]
    return _Classes(of_rows, fresh[founders[~joins[founders]]], removed, joined, old)


def _known_classes(
    before: Matches, signed: Signed, prints: Sequence[NDArray[np.uint64]]
) -> Iterator[tuple[Numbers, NDArray[np.int32]]]:
    """Places among fingerprints that rows had before, and the classes of those rows."""
    for ((numbers, places),) in _having(signed, len(before.classes), {"print_0": prints[0]}):
        same = (signed.numbered(numbers).array("print_1") == prints[1][places]) & (before.classes[numbers] >= 0)
        yield places[same], before.classes[numbers[same]]


def _joined(of_rows: NDArray[np.int32], touched: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Of touched classes with rows the old and new names, and those without."""
    is_touched = np.zeros(len(of_rows) + 1, dtype=bool)  # the last is where -1 points
    is_touched[touched] = True
    rows = np.flatnonzero(is_touched[of_rows])
    old, at = np.unique(of_rows[rows], return_index=True)
    is_touched[old] = False
    return old.astype(np.int64), rows[at], np.flatnonzero(is_touched)


# -- pairs -----------------------------------------------------------------------------------------------------------


def _candidates(before: Matches, signed: Signed, classes: _Classes, band_count: int) -> tuple[Candidates, Candidates]:
    """The pairs of the buckets that classes came to or left: as they are now, and as they were."""
    touched = np.sort(np.concatenate((classes.added, classes.removed)))
    view, came = signed.numbered(touched), signed.numbered(classes.added)
    named_bands = [f"band_{band}" for band in range(band_count)]
    others = _others(before, signed, named_bands, view)
    members = distinct(classes.added, *(numbers for _, numbers in others))
    stays = np.ones(len(members), dtype=bool)
    stays[np.searchsorted(members, classes.removed)] = False
    named = signed.numbered(members)
    order = bucket_order(named.array("words"), named.array("print_0"))
    here = np.searchsorted(members, classes.added)

    def now() -> Iterator[Members]:
        for band, (keys, numbers) in enumerate(others):
            places = np.searchsorted(members, numbers)
            left = stays[places]
            own = came.array(f"band_{band}")
            if not len(keys):
                yield own, here
                continue
            yield np.concatenate((own, keys[left])), np.concatenate((here, places[left]))

    def then() -> Iterator[Members]:
        for keys, numbers in others:
            yield keys, np.searchsorted(members, numbers)

    return _named(candidate_pairs(now(), order), members), _named(candidate_pairs(then(), order), members)


def _others(
    before: Matches, signed: Signed, bands: Sequence[str], view: Signed
) -> list[tuple[NDArray[np.uint32], Numbers]]:
    """The classes there were in the buckets of some rows: of each band the keys of the buckets, and the classes."""
    if not len(before.classes):
        return [(np.zeros(0, dtype=np.uint32), _NONE) for _ in bands]
    keys = {band: distinct(view.array(band)) for band in bands}
    found = [([keys[band][:0]], [_NONE]) for band in bands]
    for piece in _having(signed, len(before.classes), keys):
        for (numbers, places), (_, values), (buckets, names) in zip(piece, keys.items(), found, strict=True):
            is_class = before.classes[numbers] == numbers
            buckets.append(values[places[is_class]])
            names.append(numbers[is_class])
    return [(np.concatenate(buckets), np.concatenate(names)) for buckets, names in found]


def _having(signed: Signed, rows: int, wanted: Mapping[str, NDArray[Any]]) -> Iterator[list[tuple[Numbers, Numbers]]]:
    """Which of the first rows have one of some different values in a column, and the place of that.

    Piece by piece, ascending, and in each for all columns: every part is opened once.
    """
    from anneal.curation.domain.kernels.table import KeyTable

    if not rows or not any(map(len, wanted.values())):
        return
    tables = {name: KeyTable(values.astype(np.uint64), np.arange(len(values))) for name, values in wanted.items()}

    def look(piece: int) -> list[tuple[Numbers, Numbers]]:
        part, start = signed.parts.signatures(piece), int(signed.starts[piece])
        hits = [table.hits(part.column(name).to_numpy()) for name, table in tables.items()]
        return [(start + here, places) for here, places in hits]

    yield from side_by_side(look, range(int(np.searchsorted(signed.starts[:-1], rows))))


def _named(found: Candidates, members: Numbers) -> Candidates:
    left, right = ends_of(found.codes)
    return replace(found, codes=codes_of(members[left], members[right]))


def _changed(
    before: Matches, gained: Candidates, lost: Candidates
) -> tuple[NDArray[np.uint64], NDArray[np.uint8], NDArray[np.float64], Numbers]:
    """The pairs with what changed, and the rows in pairs that came or went."""
    if not len(before.classes):
        return gained.codes, gained.bands, np.full(len(gained.codes), np.nan), _NONE
    codes = distinct(gained.codes, lost.codes)
    change = np.zeros(len(codes), dtype=np.int16)
    change[np.searchsorted(codes, gained.codes)] += gained.bands
    change[np.searchsorted(codes, lost.codes)] -= lost.bands
    at = np.searchsorted(before.codes, codes)
    was = np.append(before.codes, np.uint64(0))[at] == codes
    was[at == len(before.codes)] = False
    bands = before.bands.copy()
    bands[at[was]] = (bands[at[was]] + change[was]).astype(np.uint8)
    stays = bands > 0
    new = ~was & (change > 0)
    places = np.searchsorted(before.codes[stays], codes[new])
    ends = np.concatenate((*ends_of(before.codes[~stays]), *ends_of(codes[new])))
    return (
        np.insert(before.codes[stays], places, codes[new]),
        np.insert(bands[stays], places, change[new].astype(np.uint8)),
        np.insert(before.similarities[stays], places, np.nan),
        ends,
    )


def _renamed(
    codes: NDArray[np.uint64],
    bands: NDArray[np.uint8],
    similarities: NDArray[np.float64],
    renamed: Numbers,
    moved: Numbers,
) -> tuple[NDArray[np.uint64], NDArray[np.uint8], NDArray[np.float64]]:
    """The pairs by the new names of their classes."""
    has_moved = np.zeros(len(renamed), dtype=bool)
    has_moved[moved] = True
    left, right = ends_of(codes)
    out = has_moved[left] | has_moved[right]
    fresh = codes_of(renamed[left[out]], renamed[right[out]])
    order = np.argsort(fresh)
    places = np.searchsorted(codes[~out], fresh[order])
    return (
        np.insert(codes[~out], places, fresh[order]),
        np.insert(bands[~out], places, bands[out][order]),
        np.insert(similarities[~out], places, similarities[out][order]),
    )
