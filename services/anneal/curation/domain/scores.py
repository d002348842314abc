"""Scores in rows: written into the map `scores`, with their remarks in `meta`, and counted where they are missing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.errors import TooManyUnscored
from anneal.curation.domain.needs import need

if TYPE_CHECKING:  # the steps take their settings' checks from here
    from anneal.curation.domain.steps.base import Grader, Scores

REMARKS = "scoring"
"""Key in a row's `meta`: name of the scorer -> `unscored` (why there is no score) and its notes."""
UNSCORED = "unscored"
MIN_ROWS = 50
"""Rows after which a share of unscored ones says something before the last row has come."""
MAX_NAME = 64
DEFAULT_MAX_UNSCORED_SHARE = 0.5


def need_score_name(name: str) -> None:
    """Check the setting `score_name`.

    Raises:
        WrongSetting: it is blank or longer than 64 characters.
    """
    need(bool(name.strip()) and len(name) <= MAX_NAME, "score_name", f"is blank or longer than {MAX_NAME} characters")


def need_share(share: float) -> None:
    """Check the setting `max_unscored_share`.

    Raises:
        WrongSetting: it is not within 0 and 1.
    """
    need(0 <= share <= 1, "max_unscored_share", f"{share} is not within 0 and 1")


def scored(batch: pa.RecordBatch, scores: Scores, name: str) -> pa.RecordBatch:
    """Conversations with their scores; ids stay, because scores are no content.

    A score replaces one of its name, also by nothing: an old score of a row that is now unscored is no score of it.
    Causes and notes come into `meta` under `scoring` and the scorer's name, in place of what it remarked before.

    Args:
        batch: conversations, as many as there are scores.
        scores: what a scorer said of them.
        name: of the scorer; no two of one pipeline may share it.

    Raises:
        ValueError: a score is NaN or infinite.
    """
    columns = {column: batch.column(column) for column in batch.schema.names}
    columns["scores"] = _with_values(columns["scores"], scores.values)
    columns["meta"] = _with_remarks(columns["meta"], scores, name)
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=batch.schema)


def _with_values(column: pa.MapArray, values: Mapping[str, pa.Array]) -> pa.MapArray:
    rows = len(column)
    owners, keys, items = _entries(column)
    stays = pc.invert(pc.is_in(keys, pa.array(list(values), pa.string())))
    parts_of_owners = [owners[stays.to_numpy(zero_copy_only=False)]]
    parts_of_keys, parts_of_items = [keys.filter(stays)], [items.filter(stays)]
    for name, of_rows in values.items():
        known = of_rows.drop_null().cast(pa.float64())
        if not pc.all(pc.is_finite(known), min_count=0).as_py():
            raise ValueError(f"a score {name} is NaN or infinite: unknown is null")
        parts_of_owners.append(np.flatnonzero(of_rows.is_valid().to_numpy(zero_copy_only=False)))
        parts_of_keys.append(pa.repeat(pa.scalar(name), len(known)))
        parts_of_items.append(known)
    table = pa.table(
        {
            "row": np.concatenate(parts_of_owners),
            "key": pa.concat_arrays(parts_of_keys),
            "item": pa.concat_arrays(parts_of_items),
        }
    ).sort_by([("row", "ascending"), ("key", "ascending")])
    counts = np.bincount(table["row"].to_numpy(), minlength=rows)
    offsets = pa.array(np.concatenate(([0], np.cumsum(counts))), pa.int32())
    found: pa.MapArray = pa.MapArray.from_arrays(
        offsets, table["key"].combine_chunks(), table["item"].combine_chunks()
    ).cast(column.type)
    return found


def _entries(column: pa.MapArray) -> tuple[NDArray[np.int64], pa.Array, pa.Array]:
    """Row, key and item of every entry, also of a slice or beside rows that are null."""
    offsets = column.offsets.to_numpy().astype(np.int64)
    lengths = np.diff(offsets) * column.is_valid().to_numpy(zero_copy_only=False)
    owners = np.repeat(np.arange(len(column)), lengths)
    firsts = np.concatenate(([0], np.cumsum(lengths)))[:-1]
    places = pa.array(np.arange(len(owners)) + np.repeat(offsets[:-1] - firsts, lengths))
    return owners, column.keys.take(places), column.items.take(places)


def _with_remarks(column: pa.Array, scores: Scores, name: str) -> pa.Array:
    remarks: dict[int, dict[str, str]] = {}
    for row, cause in enumerate(scores.causes):
        if cause is not None:
            remarks.setdefault(row, {})[UNSCORED] = cause
    for note, texts in scores.notes.items():
        for row, text in enumerate(texts):
            if text is not None:
                remarks.setdefault(row, {})[note] = text
    remarked = pc.indices_nonzero(pc.fill_null(pc.match_substring(column, f'"{REMARKS}"'), False)).to_pylist()
    touched = sorted(remarks.keys() | set(remarked))
    if not touched:
        return column
    written = [_remarked(column[row].as_py(), name, remarks.get(row)) for row in touched]
    mask = np.zeros(len(column), dtype=bool)
    mask[touched] = True
    return pc.replace_with_mask(column, pa.array(mask), pa.array(written, column.type))


def _remarked(meta: str | None, name: str, remarks: Mapping[str, str] | None) -> str:
    opened = _opened(meta)
    of_scorers = opened.pop(REMARKS, {})
    of_scorers = of_scorers if isinstance(of_scorers, dict) else {}
    of_scorers.pop(name, None)
    if remarks:
        of_scorers[name] = dict(remarks)
    if of_scorers:
        opened[REMARKS] = of_scorers
    return json.dumps(opened, sort_keys=True, ensure_ascii=False)


def _opened(meta: str | None) -> dict[str, Any]:
    try:
        value = json.loads(meta or "{}")
    except ValueError:
        value = meta
    return value if isinstance(value, dict) else {"meta": value}


class CountedScorer:
    """A scorer that counts what it leaves unscored, and stops a job that would go on for nothing.

    Attributes:
        name: under which its remarks stand in `meta`.
    """

    def __init__(self, name: str, scorer: Grader, max_unscored_share: float, totals: Sequence[str] = ()) -> None:
        """Wrap a scorer.

        Args:
            name: see above.
            scorer: what scores.
            max_unscored_share: highest share of rows that may stay unscored.
            totals: notes that are whole numbers; their sums are among the statistics.
        """
        self.name = name
        self._scorer, self._max_share = scorer, max_unscored_share
        self._rows = 0
        self._causes: Counter[str] = Counter()
        self._totals = dict.fromkeys(totals, 0)

    def score(self, batch: pa.RecordBatch) -> Scores:
        """The scores of the rows.

        Raises:
            TooManyUnscored: of all rows so far, 50 or more, too large a share stayed unscored.
        """
        scores = self._scorer.score(batch)
        self.recall(scores)
        return scores

    def recall(self, scores: Scores) -> None:
        """Count scores, also those of an attempt before.

        Raises:
            TooManyUnscored: as `score`.
        """
        self._rows += len(scores.causes)
        self._causes.update(cause for cause in scores.causes if cause is not None)
        for note in self._totals:
            self._totals[note] += sum(int(text) for text in scores.notes.get(note, ()) if text is not None)
        if self._rows >= MIN_ROWS:
            self._check()

    def finish(self) -> dict[str, Any]:
        """After the last row: how many were scored, and why the others were not; a manifest may keep it.

        Raises:
            TooManyUnscored: too large a share of all rows stayed unscored.
        """
        self._check()
        unscored = self._causes.total()
        counts = {"scorer": self.name, "rows": self._rows, "scored": self._rows - unscored}
        return {**counts, "unscored": dict(sorted(self._causes.items())), **self._totals}

    def _check(self) -> None:
        unscored = self._causes.total()
        if unscored > self._max_share * self._rows:
            most = ", ".join(f"{cause}: {count}" for cause, count in self._causes.most_common(5))
            raise TooManyUnscored(
                f"{self.name} left {unscored} of {self._rows} rows unscored ({most}), more than the share of "
                f"{self._max_share} that max_unscored_share allows",
                scorer=self.name,
                unscored=str(unscored),
                rows=str(self._rows),
            )
