"""Drop rows that answer the same prompt differently: a model that learns both learns neither.

Prompts and answers are compared as `exact_duplicates` does: by 128 bits of BLAKE2b of the normalised text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.steps.base import Signed, Verdicts
from anneal.curation.domain.texts import digests_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradictions:
    """Of rows with equal prompts and different answers keep one answer, or none.

    Everything before the answer is the prompt, its system message too. Rows that repeat the answer kept stay:
    they are duplicates. Documents have no prompt, and rows without a prompt are compared as a whole: both pass.

    Attributes:
        keep: `first` keeps the answer of the row with the smallest id, `none` drops every row of the prompt.
    """

    keep: Literal["first", "none"] = "first"

    def sign(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """128 bits each of prompt and answer."""
        return pa.RecordBatch.from_arrays(
            [_pairs(digests_of(batch, "prompt", normalize=True)), _pairs(digests_of(batch, "answer", normalize=True))],
            names=["prompt", "answer"],
        )

    def compare(self, signed: Signed) -> Sequence[Verdicts]:
        """The rows whose answer is not the one kept."""
        if not len(signed):
            return []
        prompts, answers = signed.array("prompt"), signed.array("answer")
        # By prompt, then in the order of ids.
        order = np.lexsort((signed.ranks(), prompts[:, 1], prompts[:, 0]))
        group = np.cumsum(_opens(prompts[order])) - 1
        firsts = order[_opens(prompts[order])]
        kept = np.empty(len(order), dtype=np.int64)
        kept[order] = firsts[group]
        differs = (answers != answers[kept]).any(axis=1)
        variants = self._variants(prompts, answers)
        places = np.flatnonzero(differs if self.keep == "first" else variants > 1)
        return [
            Verdicts(
                places=places,
                reason="contradicting_answer",
                numbers={"answers": variants[places]},
                duplicate_of=kept[places] if self.keep == "first" else None,
            )
        ]

    @staticmethod
    def _variants(prompts: NDArray[np.uint64], answers: NDArray[np.uint64]) -> NDArray[np.int64]:
        """How many different answers the prompt of each row has, shape (rows,)."""
        both = np.concatenate((prompts, answers), axis=1)
        order = np.lexsort((both[:, 3], both[:, 2], both[:, 1], both[:, 0]))
        new_prompt, new_pair = _opens(prompts[order]), _opens(both[order])
        group = np.cumsum(new_prompt) - 1
        counts = np.bincount(group, weights=new_pair).astype(np.int64) if len(order) else np.zeros(0, dtype=np.int64)
        variants = np.empty(len(order), dtype=np.int64)
        variants[order] = counts[group]
        return variants


def _pairs(digests: NDArray[np.uint64]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(digests.reshape(-1)), 2)


def _opens(ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which rows of an ordered array differ from the one before, shape (rows,)."""
    opens = np.ones(len(ordered), dtype=bool)
    opens[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return opens
