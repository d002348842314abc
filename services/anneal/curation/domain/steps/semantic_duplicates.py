"""Drop rows that mean almost the same as another row, by the cosine of their vectors.

SemDeDup (Abbas et al. 2023, arXiv:2303.09540): rows are clustered, and compared within their cell only. Two rows are
duplicates where their cosine reaches the threshold; of each group of rows that such pairs connect, one stays.
Deviations: one row per connected group stays (the paper's code may keep several of a chain); which one is a setting,
by default the longest text rather than the row farthest from the centre (the paper's); equal vectors go first, before
any clustering; empty texts are not compared. Rows of different cells are never compared, so some pairs are missed.
A threshold belongs to its encoder: look at the removed rows before you trust one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.cells import heads_of, repeats_in
from anneal.curation.domain.clustering import MAX_CLUSTERS, Method, Vectors, cells_of, split_cells
from anneal.curation.domain.encoders import Encoder, EncoderSpec, Hashing
from anneal.curation.domain.steps.base import Signed, Verdicts, need
from anneal.curation.domain.texts import Part, text_of

MIN_THRESHOLD = 0.5
MAX_CELL_ROWS = 20_000
"""Most rows compared with each other; a larger cell is clustered again."""
Keep = Literal["longest", "closest", "farthest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticDuplicates:
    """Of rows with almost equal meaning keep one.

    Attributes:
        part: what is compared.
        encoder: what turns texts into vectors.
        threshold: lowest cosine of duplicates, 0.5 to 1.
        clustering: how cells are made; `hdbscan` and `agglomerative` for at most 10,000 rows.
        clusters: cells, up to 4,096; 0 takes the square root of the rows. `hdbscan` finds its own number.
        keep: the row that stays: the `longest` text, or the row `closest` to the centre of its cell, or the `farthest`
            from it, as in the paper; then the smallest id.

    Raises:
        WrongSetting: a setting is outside its limits.
    """

    part: Part = "conversation"
    encoder: EncoderSpec = field(default_factory=Hashing)
    threshold: float = 0.95
    clustering: Method = "kmeans"
    clusters: int = 0
    keep: Keep = "longest"

    def __post_init__(self) -> None:
        fits = MIN_THRESHOLD <= self.threshold <= 1
        need(fits, "threshold", f"{self.threshold} is not within {MIN_THRESHOLD} and 1")
        need(0 <= self.clusters <= MAX_CLUSTERS, "clusters", f"{self.clusters} is not within 0 and {MAX_CLUSTERS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticComparison:
    """A `SemanticDuplicates` with its encoder."""

    step: SemanticDuplicates
    encoder: Encoder

    def sign(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The vector of each row in half precision, zeros for an empty text, and the length in characters."""
        texts = text_of(batch, self.step.part)
        vectors = self.encoder.encode(texts.to_pylist())
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float16).reshape(-1))
        lists = pa.FixedSizeListArray.from_arrays(flat, self.encoder.dimension)
        return pa.RecordBatch.from_arrays(
            [lists, pc.utf8_length(texts).cast(pa.int64())], names=["embedding", "length"]
        )

    def compare(self, signed: Signed) -> Sequence[Verdicts]:
        """Every row but one of each group leaves.

        Raises:
            TooManyRows: the clustering compares all rows, and there are too many.
        """
        if not len(signed):
            return []
        stored, lengths = signed.array("embedding"), signed.array("length")
        by_id = np.argsort(signed.ranks(), kind="stable")
        by_id = by_id[stored[by_id].any(axis=1)]
        first = np.arange(len(signed))
        by = first.copy()
        similarities = np.ones(len(signed), dtype=np.float32)
        best_first = by_id[np.argsort(-lengths[by_id], kind="stable")] if self.step.keep == "longest" else by_id
        heads = first.copy()
        heads[best_first] = heads_of(stored, best_first)
        vectors = Vectors(stored, by_id[heads[by_id] == by_id])
        for cell in self._cells(vectors):
            order = cell[self._order(vectors.take(cell), lengths[vectors.places(cell)])]
            repeats, places = repeats_in(vectors.take(order), self.step.threshold), vectors.places(order)
            rows = places[repeats.rows]
            by[rows], first[rows] = places[repeats.by], places[repeats.first]
            similarities[rows] = repeats.similarities
        copies = np.flatnonzero(heads != np.arange(len(signed)))
        by[copies], first[copies] = heads[copies], first[heads[copies]]
        return self._verdicts(by, first, similarities)

    def _cells(self, vectors: Vectors) -> Iterator[NDArray[np.int64]]:
        cells = cells_of(vectors, self.step.clustering, self.step.clusters)
        return split_cells(vectors, cells, MAX_CELL_ROWS)

    def _order(self, shown: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of a cell, which stand in the order of their ids, with those to keep first."""
        if self.step.keep == "longest":
            return np.argsort(-lengths, kind="stable")
        # Rounded, so that equals by the last bit are told apart by id.
        nearness = np.round(shown @ shown.mean(axis=0), 5)
        return np.argsort(nearness if self.step.keep == "farthest" else -nearness, kind="stable")

    def _verdicts(
        self, by: NDArray[np.int64], first: NDArray[np.int64], similarities: NDArray[np.float32]
    ) -> Sequence[Verdicts]:
        places = np.flatnonzero(by != np.arange(len(by)))
        if not len(places):
            return []
        numbers = {
            "similarity": np.round(similarities[places].astype(np.float64), 4),
            "threshold": self.step.threshold,
        }
        kept = np.where(first[places] == by[places], -1, first[places])
        return [
            Verdicts(
                places=places,
                reason="semantic_duplicate",
                numbers=numbers,
                duplicate_of=by[places],
                related={"kept": kept},
            )
        ]
