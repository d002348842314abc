"""What all rows of a dataset look like: how long and of what form their texts are, and where they come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.forms import forms_of
from anneal.curation.domain.texts import Messages, Part, digests_of, is_conversation, text_of
from anneal.curation.domain.words import words_of

TOP_SOURCES = 20
BYTES_PER_TOKEN = 4
"""A rule of thumb for English text and byte-pair tokenizers of some 100,000 entries, from OpenAI's documentation."""
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
    """Counts over all rows of a dataset.

    Attributes:
        rows: all of them.
        sources: rows by source.
        histograms: of lengths.
        forms: rows by the form of their text; of a conversation, of its answer.
        tokens: estimated, one for `BYTES_PER_TOKEN` bytes of text.
        copies: rows whose whole text another row before them has, white space and case aside.
    """

    rows: int
    sources: Counter[str]
    histograms: tuple[Bars, ...]
    forms: Counter[str]
    tokens: int
    copies: int

    @property
    def top_sources(self) -> dict[str, int]:
        """The sources with the most rows; of equals the first by name."""
        ranked = sorted(self.sources.items(), key=lambda item: (-item[1], item[0]))
        return dict(ranked[:TOP_SOURCES])


class Survey:
    """Counts rows as they pass; of each row it keeps 16 bytes, to know its copies."""

    def __init__(self) -> None:
        self._rows, self._tokens = 0, 0
        self._sources, self._forms = Counter[str](), Counter[str]()
        self._bins: dict[str, NDArray[np.int64]] = {}
        self._digests: list[NDArray[np.uint64]] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Count rows."""
        self._rows += batch.num_rows
        for entry in pc.value_counts(pc.fill_null(batch.column("source"), "")).to_pylist():
            self._sources[entry["values"]] += entry["counts"]
        self._forms += forms_of(text_of(batch, "answer"))
        self._digests.append(digests_of(batch, "conversation", normalize=True))
        tokens = _tokens(batch)
        self._tokens += int(tokens.sum())
        for name, values in {**_measures(batch), "estimated_tokens": tokens}.items():
            places = np.where(values > 0, np.frexp(values.astype(np.float64))[1], 0)
            counts = np.bincount(places, minlength=64)
            self._bins[name] = self._bins.get(name, np.zeros(64, dtype=np.int64)) + counts

    def overview(self) -> Overview:
        """What was counted."""
        digests = np.concatenate([np.zeros((0, 2), dtype=np.uint64), *self._digests])
        return Overview(
            rows=self._rows,
            sources=self._sources,
            histograms=tuple(_bars(name, counts) for name, counts in self._bins.items()),
            forms=self._forms,
            tokens=self._tokens,
            copies=self._rows - len(np.unique(digests, axis=0)),
        )


def look_over(batches: Iterable[pa.RecordBatch]) -> Overview:
    """Count, one batch in memory."""
    survey = Survey()
    for batch in batches:
        survey.add(batch)
    return survey.overview()


def _tokens(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Tokens of each row, estimated, shape (rows,)."""
    sizes = pc.binary_length(text_of(batch, "conversation").cast(pa.large_binary())).to_numpy(zero_copy_only=False)
    estimated: NDArray[np.int64] = -(-sizes.astype(np.int64) // BYTES_PER_TOKEN)
    return estimated


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
