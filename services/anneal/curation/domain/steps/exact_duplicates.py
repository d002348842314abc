"""Drop rows that say the same as another row.

Texts are compared by 128 bits of BLAKE2b. Normalised means NFKC, lower case, white space collapsed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.identities import Identities
from anneal.curation.domain.steps.base import Removal, Removals
from anneal.curation.domain.texts import Part, digests_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactDuplicates:
    """Of rows with equal text keep the one with the smallest id, wherever it stands.

    A row whose part is empty is compared as a whole, so that rows without a prompt are not all the same.

    Attributes:
        part: what is compared; `conversation` takes the roles in.
        normalize: whether texts are normalised first.
    """

    part: Part = "conversation"
    normalize: bool = True

    def gather(self) -> Equals:
        """Begin."""
        return Equals(step=self)


@dataclass(slots=True, kw_only=True)
class Equals:
    """The digests and ids of the rows seen."""

    step: ExactDuplicates
    _seen: Identities = field(default_factory=Identities)
    _digests: list[NDArray[np.uint64]] = field(default_factory=list)

    def add(self, numbers: NDArray[np.int64], batch: pa.RecordBatch) -> None:
        """Remember rows."""
        self._seen.add(numbers, batch)
        self._digests.append(digests_of(batch, self.step.part, normalize=self.step.normalize))

    def close(self) -> None:
        """One round is enough."""
        return None

    def removals(self) -> Removals:
        """Every row but the first of each group of equals."""
        digests = np.concatenate([np.zeros((0, 2), dtype=np.uint64), *self._digests])
        order = np.lexsort((self._seen.ranks(), digests[:, 1], digests[:, 0]))
        ordered = digests[order]
        opens = np.ones(len(order), dtype=bool)
        opens[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        group = np.cumsum(opens) - 1
        firsts, sizes = order[opens], np.bincount(group)
        ids, numbers = self._seen.ids(), self._seen.numbers()
        return {
            int(numbers[order[place]]): Removal(
                "exact_duplicate", {"copies": int(sizes[group[place]])}, ids[int(firsts[group[place]])].as_py()
            )
            for place in np.flatnonzero(~opens)
        }
