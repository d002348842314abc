"""Drop rows that say the same as another row.

Texts are compared by 128 bits of their digest. Normalised means NFKC, lower case, white space collapsed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from anneal.curation.domain.steps.base import Signed, Verdicts
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

    def sign(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The digest of each row, in two halves."""
        digests = digests_of(batch, self.part, normalize=self.normalize)
        halves = [pa.array(np.ascontiguousarray(digests[:, half])) for half in range(2)]
        return pa.RecordBatch.from_arrays(halves, names=["high", "low"])

    def compare(self, signed: Signed) -> Sequence[Verdicts]:
        """Every row but the first of each group of equals leaves."""
        from anneal.curation.domain.kernels.pairs import firsts_of_equals, repeated

        if not len(signed):
            return []
        everyone = signed.array("high")
        some = repeated(everyone)
        # From here on only of rows that may have an equal: most have none.
        few = signed.only(some)
        firsts = firsts_of_equals(everyone[some], few.array("low"))
        kept = few.first_of_each(firsts)
        gone = np.flatnonzero(kept != np.arange(len(some)))
        copies = np.bincount(firsts, minlength=len(some))[firsts[gone]] if len(gone) else gone
        return [
            Verdicts(
                places=some[gone],
                reason="exact_duplicate",
                numbers={"copies": copies},
                duplicate_of=some[kept[gone]],
            )
        ]
