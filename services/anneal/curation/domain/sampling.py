"""A sample that depends on the rows alone: those whose ids have the smallest hashes, wherever they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.texts import text_of

SAMPLE_CHARACTERS = 8_000
"""What is kept of a text: what encoders read of it, and more."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows in the order of their hashes.

    Attributes:
        ids: of the rows.
        texts: the beginning of each, of a conversation all its messages.
    """

    ids: Sequence[str]
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(slots=True)
class Sampler:
    """Keeps `rows` rows at most of all that pass; rows of one id stay or go together, but at the limit."""

    rows: int
    _hashes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    _ids: list[str] = field(default_factory=list)
    _texts: list[str] = field(default_factory=list)
    _limit: int = (1 << 64) - 1

    def add(self, batch: pa.RecordBatch) -> None:
        """See rows."""
        ids = batch.column("id").to_pylist()
        raw = b"".join(blake2b((one or "").encode(), digest_size=8).digest() for one in ids)
        hashes = np.frombuffer(raw, dtype="<u8")
        near = hashes <= np.uint64(self._limit)
        if not near.any():
            return
        texts = text_of(batch.filter(pa.array(near)), "conversation")
        self._hashes = np.concatenate([self._hashes, hashes[near]])
        self._ids += [ids[row] or "" for row in np.flatnonzero(near).tolist()]
        self._texts += pc.utf8_slice_codeunits(texts, 0, SAMPLE_CHARACTERS).to_pylist()
        if len(self._ids) > 2 * self.rows:
            self._cut()

    def sample(self) -> Sample:
        """The rows kept."""
        self._cut()
        return Sample(self._ids, self._texts)

    def _cut(self) -> None:
        order = np.argsort(self._hashes, kind="stable")[: self.rows]
        self._hashes = self._hashes[order]
        self._ids = [self._ids[row] for row in order.tolist()]
        self._texts = [self._texts[row] for row in order.tolist()]
        if len(order) == self.rows:
            self._limit = int(self._hashes[-1])
