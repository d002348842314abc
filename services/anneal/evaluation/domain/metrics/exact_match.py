"""Whether the answer is the reference.

Text is compared after SQuAD's normalisation (Rajpurkar et al. 2016, arXiv:1606.05250); JSON as values, so that
spacing and the order of an object's keys do not count.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from anneal.evaluation.domain.estimates import Link, Score
from anneal.evaluation.domain.metric import Better
from anneal.evaluation.domain.normalisation import normalise
from anneal.evaluation.domain.samples import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactMatch:
    """Share of answers equal to their reference; higher is better, range 0-1.

    Where JSON is asked for, an answer that is none is wrong; a *reference* that is none leaves the row unscored.
    """

    better: ClassVar[Better] = Better.HIGHER
    link: ClassVar[Link] = Link.IDENTITY
    unit: ClassVar[str] = ""
    needs_answer: ClassVar[bool] = True
    needs_logprobs: ClassVar[bool] = False

    def score(self, sample: Sample) -> Score | None:
        """1 for a match, 0 for none; None without an answer."""
        if sample.answer is None:
            return None
        compare = _equal_json if sample.answer_format == "json" else _equal_text
        equal = compare(sample.answer, sample.reference)
        return None if equal is None else Score(value=float(equal), group=sample.group)


def _equal_text(answer: str, reference: str) -> bool:
    return normalise(answer) == normalise(reference)


def _equal_json(answer: str, reference: str) -> bool | None:
    wanted, is_json = _parse(reference)
    if not is_json:
        return None
    given, is_json = _parse(answer)
    return is_json and _typed(given) == _typed(wanted)


def _parse(text: str) -> tuple[Any, bool]:
    try:
        return json.loads(text), True
    except (ValueError, RecursionError):
        return None, False


def _typed(value: Any) -> Any:
    """The value with its booleans marked: Python holds True equal to 1, JSON does not."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    return value
