r"""Drop rows whose prompt or answer is too short or too long.

Characters are Unicode code points, words are runs of `\w`. A document has one text: every limit is about that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.steps.base import Removal, Removals, need
from anneal.curation.domain.texts import text_of
from anneal.curation.domain.words import words_of

_Part = Literal["prompt", "answer"]
_PARTS: tuple[_Part, ...] = ("prompt", "answer")
_UNITS = ("characters", "words")


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """Drop a row whose prompt or answer is outside its limits; a limit itself is allowed, None is no limit.

    Attributes:
        min_prompt_characters: fewest characters before the answer.
        max_prompt_characters: most characters before the answer.
        min_prompt_words: fewest words before the answer.
        max_prompt_words: most words before the answer.
        min_answer_characters: fewest characters of the answer.
        max_answer_characters: most characters of the answer.
        min_answer_words: fewest words of the answer.
        max_answer_words: most words of the answer.

    Raises:
        WrongSetting: a limit is negative, a minimum is above its maximum, or there is no limit at all.
    """

    min_prompt_characters: int | None = None
    max_prompt_characters: int | None = None
    min_prompt_words: int | None = None
    max_prompt_words: int | None = None
    min_answer_characters: int | None = None
    max_answer_characters: int | None = None
    min_answer_words: int | None = None
    max_answer_words: int | None = None

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
            measured = _measure(batch, part, unit)
            if low is not None:
                for row in np.flatnonzero(measured < low):
                    numbers = {unit: int(measured[row]), f"min_{unit}": low}
                    removals.setdefault(int(row), Removal(f"{part}_too_short", numbers))
            if high is not None:
                for row in np.flatnonzero(measured > high):
                    numbers = {unit: int(measured[row]), f"max_{unit}": high}
                    removals.setdefault(int(row), Removal(f"{part}_too_long", numbers))
        return removals

    def _limits(self) -> Iterator[tuple[_Part, str, int | None, int | None]]:
        for part in _PARTS:
            for unit in _UNITS:
                low, high = getattr(self, f"min_{part}_{unit}"), getattr(self, f"max_{part}_{unit}")
                if low is not None or high is not None:
                    yield part, unit, low, high


def _measure(batch: pa.RecordBatch, part: _Part, unit: str) -> NDArray[np.int64]:
    texts = text_of(batch, part)
    if unit == "words":
        return words_of(texts).lengths
    lengths: NDArray[np.int64] = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    return lengths
