"""Answers with a label, wanted or not (KTO): a preference of which one side is absent.

The answer stands in `completion`, `response`, `output` or `answer` behind its prompt, or is the last turn of `messages`
or `conversations`; the label in `label` or `kto_tag`: true or false.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.importers.alpaca import INPUTS
from anneal.ingestion.adapters.importers.base import BadRow, Imported, Turn, is_list, preference, tools_of
from anneal.ingestion.adapters.importers.openai import turns_of
from anneal.ingestion.adapters.importers.preference import LISTS, asked
from anneal.ingestion.adapters.media import check_columns
from anneal.ingestion.adapters.pairs import BESIDE, answer_of
from anneal.kit.records import RecordKind

LABELS = ("label", "kto_tag")
PAIRS = (
    *(("prompt", "completion"), ("prompt", "response"), ("query", "response"), ("instruction", "output")),
    *(("instruction", "response"), ("question", "answer"), ("question", "response")),
)
_TRUTH = {"true": True, "false": False}


class Kto:
    """Reads labelled answers."""

    kind: RecordKind = "preference"
    fields = frozenset({*LISTS, *LABELS, *INPUTS, *BESIDE, *(name for pair in PAIRS for name in pair)})

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether it has an answer and a label that is true or false; 1 and 0 may be."""
        return label_of(row) is not None and (
            any(is_list(row, name) for name in LISTS) or any(a in row and b in row for a, b in PAIRS)
        )

    def read(self, row: Mapping[str, Any]) -> Iterator[Imported]:
        """One preference with one side.

        Raises:
            BadRow: there is no label, or a field is missing or of the wrong type.
        """
        check_columns(row)
        label = label_of(row)
        if label is None:
            raise BadRow("missing_field", "the row has no label that is true or false")
        prompt, answer, more = _answered(row)
        yield preference(prompt, answer if label else None, None if label else answer, tools=tools_of(row), meta=more)


def _answered(row: Mapping[str, Any]) -> tuple[list[Turn], list[Turn], dict[str, Any]]:
    field = next((name for name in LISTS if row.get(name)), None)
    if field is not None:
        turns, more = turns_of(row, field)
        last = max((place for place, turn in enumerate(turns) if turn["role"] == "user"), default=-1)
        return turns[: last + 1], turns[last + 1 :], more
    pair = next(((a, b) for a, b in PAIRS if a in row and b in row), None)
    if pair is None:
        raise BadRow("missing_field", "the row has no prompt and answer beside its label")
    prompt, more = asked(row, pair[0])
    return prompt, answer_of(row, pair[1])[0], more


def label_of(row: Mapping[str, Any]) -> bool | None:
    """Whether a row's answer is wanted; None where no label says so."""
    value = next((row[name] for name in LABELS if row.get(name) is not None), None)
    if isinstance(value, str):
        return _TRUTH.get(value.strip().lower())
    return bool(value) if isinstance(value, bool | int) and value in (0, 1) else None


def is_sure(row: Mapping[str, Any]) -> bool:
    """Whether the label cannot be a number of a class: 0 and 1 can."""
    return any(isinstance(row.get(name), bool | str) for name in LABELS)
