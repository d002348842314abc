"""What a dataset looks like: how long its texts are and where they come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.texts import Messages, Part, is_conversation, text_of
from anneal.curation.domain.words import words_of

TOP_SOURCES = 20
_PARTS: tuple[Part, ...] = ("prompt", "answer")


@dataclass(frozen=True, slots=True)
class Bars:
    """A histogram; bin i holds values from `edges[i]` to below `edges[i + 1]`.

    Attributes:
        edges: 0, 1, 2, 4, 8, ... up to beyond the largest value.
        counts: values per bin, one fewer than edges.
    """

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """Counts over all rows of a dataset."""

    rows: int
    sources: Counter[str]
    histograms: tuple[Bars, ...]

    @property
    def top_sources(self) -> dict[str, int]:
        """The sources with the most rows; of equals the first by name."""
        ranked = sorted(self.sources.items(), key=lambda item: (-item[1], item[0]))
        return dict(ranked[:TOP_SOURCES])


def look_over(batches: Iterable[pa.RecordBatch]) -> Overview:
    """Count, one batch in memory."""
    rows, sources = 0, Counter[str]()
    bins: dict[str, NDArray[np.int64]] = {}
    for batch in batches:
        rows += batch.num_rows
        for entry in pc.value_counts(pc.fill_null(batch.column("source"), "")).to_pylist():
            sources[entry["values"]] += entry["counts"]
        for name, values in _measures(batch).items():
            places = np.where(values > 0, np.frexp(values.astype(np.float64))[1], 0)
            bins[name] = bins.get(name, np.zeros(64, dtype=np.int64)) + np.bincount(places, minlength=64)
    return Overview(rows, sources, tuple(_bars(name, counts) for name, counts in bins.items()))


def _measures(batch: pa.RecordBatch) -> dict[str, NDArray[np.int64]]:
    if not is_conversation(batch):
        texts = {"text": text_of(batch, "conversation")}
        measures: dict[str, NDArray[np.int64]] = {}
    else:
        texts = {str(part): text_of(batch, part) for part in _PARTS}
        measures = {"messages": Messages(batch).lengths}
    for part, found in texts.items():
        measures[f"{part}_characters"] = pc.utf8_length(found).to_numpy(zero_copy_only=False)
        measures[f"{part}_words"] = words_of(found).lengths
    return measures


def _bars(name: str, counts: NDArray[np.int64]) -> Bars:
    used = int(np.flatnonzero(counts).max(initial=0)) + 1
    edges = (0.0, *(float(1 << power) for power in range(used)))
    return Bars(name, edges, tuple(counts[:used].tolist()))
