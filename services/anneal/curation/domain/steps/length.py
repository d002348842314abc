r"""Drop rows whose prompt, answer or whole conversation is too short or too long.

Characters are Unicode code points, words are runs of `\w`, tokens are estimated (domain/counts.py says how, and what
for). Only what messages say is counted: not their roles, nothing between them. A document has one text: every limit is
about that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.counts import count_tokens, count_words
from anneal.curation.domain.steps.base import Removal, Removals, need
from anneal.curation.domain.texts import PARTS, Part, turns_of


def _count_characters(texts: pa.Array) -> NDArray[np.int64]:
    lengths: NDArray[np.int64] = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    return lengths


_UNITS: Mapping[str, Callable[[pa.Array], NDArray[np.int64]]] = {
    "characters": _count_characters,
    "words": count_words,
    "tokens": count_tokens,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """Drop a row whose prompt, answer or conversation is outside its limits; a limit itself is allowed, None is none.

    Attributes:
        min_prompt_characters: fewest characters before the answer.
        max_prompt_characters: most characters before the answer.
        min_prompt_words: fewest words before the answer.
        max_prompt_words: most words before the answer.
        min_prompt_tokens: fewest estimated tokens before the answer.
        max_prompt_tokens: most estimated tokens before the answer.
        min_answer_characters: fewest characters of the answer.
        max_answer_characters: most characters of the answer.
        min_answer_words: fewest words of the answer.
        max_answer_words: most words of the answer.
        min_answer_tokens: fewest estimated tokens of the answer.
        max_answer_tokens: most estimated tokens of the answer.
        min_conversation_characters: fewest characters of all messages.
        max_conversation_characters: most characters of all messages.
        min_conversation_words: fewest words of all messages.
        max_conversation_words: most words of all messages.
        min_conversation_tokens: fewest estimated tokens of all messages.
        max_conversation_tokens: most estimated tokens of all messages.

    Raises:
        WrongSetting: a limit is negative, a minimum is above its maximum, or there is no limit at all.
    """

    min_prompt_characters: int | None = None
    max_prompt_characters: int | None = None
    min_prompt_words: int | None = None
    max_prompt_words: int | None = None
    min_prompt_tokens: int | None = None
    max_prompt_tokens: int | None = None
    min_answer_characters: int | None = None
    max_answer_characters: int | None = None
    min_answer_words: int | None = None
    max_answer_words: int | None = None
    min_answer_tokens: int | None = None
    max_answer_tokens: int | None = None
    min_conversation_characters: int | None = None
    max_conversation_characters: int | None = None
    min_conversation_words: int | None = None
    max_conversation_words: int | None = None
    min_conversation_tokens: int | None = None
    max_conversation_tokens: int | None = None

    def __post_init__(self) -> None:
        limits = list(self._limits())
        need(bool(limits), "min_answer_characters", "at least one limit is needed")
        for part, unit, low, high in limits:
            need(low is None or low >= 0, f"min_{part}_{unit}", f"{low} is negative")
            need(high is None or high >= 0, f"max_{part}_{unit}", f"{high} is negative")
            fits = low is None or high is None or low <= high
            need(fits, f"max_{part}_{unit}", f"{high} is below min_{part}_{unit} {low}")

    def judge(self, batch: pa.RecordBatch) -> Removals:
        """The rows outside a limit, with the first limit they miss."""
        removals: dict[int, Removal] = {}
        for part, unit, low, high in self._limits():
            contents, rows = turns_of(batch, part)
            # Whole numbers stay whole in float64 up to 2**53.
            counts = np.bincount(rows, weights=_UNITS[unit](contents), minlength=batch.num_rows).astype(np.int64)
            if low is not None:
                for row in np.flatnonzero(counts < low):
                    numbers = {unit: int(counts[row]), f"min_{unit}": low}
                    removals.setdefault(int(row), Removal(f"{part}_too_short", numbers))
            if high is not None:
                for row in np.flatnonzero(counts > high):
                    numbers = {unit: int(counts[row]), f"max_{unit}": high}
                    removals.setdefault(int(row), Removal(f"{part}_too_long", numbers))
        return removals

    def _limits(self) -> Iterator[tuple[Part, str, int | None, int | None]]:
        for part in PARTS:
            for unit in _UNITS:
                low, high = getattr(self, f"min_{part}_{unit}"), getattr(self, f"max_{part}_{unit}")
                if low is not None or high is not None:
                    yield part, unit, low, high
