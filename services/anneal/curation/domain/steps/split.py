"""Put whole sources into train, validation and test.

Rows of one source are siblings: were they on both sides, the test would measure memory. Where a source goes depends on
the seed and its name alone, so every dataset of the same sources splits the same way, whatever rows it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import pyarrow as pa
import pyarrow.compute as pc

from anneal.curation.domain.steps.base import TEST, TRAIN, VALIDATION, need


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Assign splits by source.

    Attributes:
        seed: another seed is another split.
        test: share of sources in the split `test`.
        validation: share of sources in the split `validation`.

    Raises:
        WrongSetting: a share is outside 0 to 1, or both together leave nothing to train on.
    """

    seed: str = "anneal-split"
    test: float = 0.15
    validation: float = 0.10

    def __post_init__(self) -> None:
        need(0 <= self.test < 1, "test", f"{self.test} is not at least 0 and below 1")
        need(0 <= self.validation < 1, "validation", f"{self.validation} is not at least 0 and below 1")
        left = self.test + self.validation < 1
        need(left, "validation", f"test {self.test} and validation {self.validation} leave nothing to train on")

    def assign(self, batch: pa.RecordBatch) -> Sequence[str]:
        """The split of each row."""
        sources = pc.fill_null(batch.column("source"), "").dictionary_encode()
        splits = [self.of(source) for source in sources.dictionary.to_pylist()]
        return [splits[index] for index in sources.indices.to_pylist()]

    def of(self, source: str) -> str:
        """The split of a source."""
        u = place_of(self.seed, source)
        return TEST if u < self.test else VALIDATION if u < self.test + self.validation else TRAIN


def place_of(seed: str, source: str) -> float:
    """Where a source stands, from 0 to below 1."""
    return int(sha256(f"{seed}:{source}".encode()).hexdigest()[:8], 16) / float(2**32)
